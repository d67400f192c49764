select
    order_item_id,
    order_id,
    product_id,
    quantity,
    {{ in_dollars('unit_price_cents') }} as unit_price,
    _loaded_at
from {{ source('raw', 'order_items') }}
