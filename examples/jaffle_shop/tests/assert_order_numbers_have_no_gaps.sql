-- A customer's orders are numbered 1, 2, 3 without a gap.
select customer_id
from {{ ref('mart_customer_orders') }}
group by customer_id
having coalesce(max(order_number), 0) != count(order_id)
