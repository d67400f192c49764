select
    product_id,
    name as product_name,
    category,
    {{ in_dollars('price_cents') }} as price,
    {{ in_dollars('cost_cents') }} as cost,
    _loaded_at
from {{ latest_version(source('raw', 'products'), 'product_id') }}
