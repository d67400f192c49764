select
    order_id,
    customer_id,
    store_id,
    ordered_at,
    cast(ordered_at as date) as ordered_on,
    status,
    {{ in_dollars('amount_cents') }} as amount,
    _loaded_at
from {{ source('raw', 'orders') }}
