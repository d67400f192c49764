select
    store_id,
    name as store_name,
    region,
    manager,
    opened_on,
    _loaded_at
from {{ latest_version(source('raw', 'stores'), 'store_id') }}
