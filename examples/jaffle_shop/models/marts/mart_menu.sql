with price_history as (

    select
        product_id,
        count(*) - 1 as price_changes,
        min(price) as lowest_price,
        max(price) as highest_price
    from {{ ref('product_prices') }}
    group by product_id

)

select
    products.product_id,
    products.product_name,
    products.category,
    products.price,
    products.price - products.cost as margin,
    coalesce(price_history.price_changes, 0) as price_changes,
    price_history.lowest_price,
    price_history.highest_price
from {{ ref('stg_products') }} as products
left join price_history on products.product_id = price_history.product_id
