select
    customer_id,
    name as customer_name,
    lower(email) as email,
    signed_up_on,
    _loaded_at
from {{ latest_version(source('raw', 'customers'), 'customer_id') }}
