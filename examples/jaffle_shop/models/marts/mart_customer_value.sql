{{
    config(
        freshness={'build_after': {'count': 24, 'period': 'hour', 'updates_on': 'any'}}
    )
}}

select
    customer_id,
    customer_name,
    count(order_id) as order_count,
    coalesce(sum(amount), 0) as lifetime_amount,
    min(ordered_at) as first_ordered_at,
    max(ordered_at) as last_ordered_at,
    case
        when count(order_id) >= 6 then 'regular'
        when count(order_id) >= 1 then 'occasional'
        else 'prospect'
    end as segment
from {{ ref('mart_customer_orders') }}
group by customer_id, customer_name
