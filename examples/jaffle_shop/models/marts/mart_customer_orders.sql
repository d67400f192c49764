select
    customers.customer_id,
    customers.customer_name,
    orders.order_id,
    orders.store_id,
    orders.ordered_at,
    orders.amount,
    case
        when orders.order_id is not null
            then row_number() over (
                partition by customers.customer_id
                order by orders.ordered_at, orders.order_id
            )
    end as order_number,
    date_diff(
        'day',
        lag(orders.ordered_on) over (
            partition by customers.customer_id
            order by orders.ordered_at, orders.order_id
        ),
        orders.ordered_on
    ) as days_since_previous_order
from {{ ref('stg_customers') }} as customers
left join {{ ref('int_orders') }} as orders on customers.customer_id = orders.customer_id
