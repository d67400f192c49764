select
    payment_id,
    order_id,
    method,
    {{ in_dollars('amount_cents') }} as amount,
    paid_at,
    _loaded_at
from {{ source('raw', 'payments') }}
