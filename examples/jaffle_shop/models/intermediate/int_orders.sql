with items as (

    select
        order_id,
        sum(quantity) as item_count,
        sum(quantity) filter (where category = 'drink') as drink_count,
        sum(cost) as cost,
        max(_loaded_at) as _loaded_at
    from {{ ref('int_order_items_priced') }}
    group by order_id

)

select
    orders.order_id,
    orders.customer_id,
    orders.store_id,
    orders.ordered_at,
    orders.ordered_on,
    orders.status,
    orders.amount,
    coalesce(items.item_count, 0) as item_count,
    coalesce(items.drink_count, 0) as drink_count,
    items.cost,
    coalesce(payments.paid, 0) as paid,
    -- greatest() passes over nulls: an order whose items or payments are still to come counts from its own load.
    greatest(orders._loaded_at, items._loaded_at, payments._loaded_at) as changed_at
from {{ ref('stg_orders') }} as orders
left join items on orders.order_id = items.order_id
left join {{ ref('int_order_payments') }} as payments on orders.order_id = payments.order_id
