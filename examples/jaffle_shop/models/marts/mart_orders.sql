{{
    config(
        materialized='incremental',
        unique_key='order_id',
        incremental_strategy='delete+insert',
        on_schema_change='fail'
    )
}}

select
    order_id,
    customer_id,
    store_id,
    ordered_at,
    status,
    amount,
    item_count,
    paid,
    amount - paid as outstanding,
    changed_at
from {{ ref('int_orders') }}

{% if is_incremental() %}
-- At or after, not after: two loads may share an instant, and writing a row again does no harm.
where changed_at >= (select coalesce(max(changed_at), timestamp '1970-01-01') from {{ this }})
{% endif %}
