select
    orders.order_id,
    orders.ordered_on,
    orders.amount,
    coalesce(payments.paid, 0) as paid,
    coalesce(payments.fees, 0) as fees,
    coalesce(payments.paid, 0) - orders.amount as difference,
    case
        when payments.order_id is null then 'unpaid'
        when payments.paid < orders.amount then 'underpaid'
        when payments.paid > orders.amount then 'overpaid'
        else 'settled'
    end as state
from {{ ref('stg_orders') }} as orders
left join {{ ref('int_order_payments') }} as payments on orders.order_id = payments.order_id
