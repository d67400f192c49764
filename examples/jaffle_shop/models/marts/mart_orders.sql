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
-- Whatever differs from what is there, not what is newer than all of it: orders, items and payments arrive apart, so an
-- order may change with a load that is older than the newest one here, and edited code changes old orders.
except
select
    order_id,
    customer_id,
    store_id,
    ordered_at,
    status,
    amount,
    item_count,
    paid,
    outstanding,
    changed_at
from {{ this }}
{% endif %}
