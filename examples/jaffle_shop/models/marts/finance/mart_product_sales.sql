select
    product_id,
    product_name,
    category,
    sum(quantity) as sold,
    sum(revenue) as revenue,
    sum(revenue) - sum(cost) as profit,
    rank() over (partition by category order by sum(revenue) desc, product_id) as rank_in_category
from {{ ref('int_order_items_priced') }}
group by product_id, product_name, category
