{{ config(materialized='ephemeral') }}

select
    items.order_item_id,
    items.order_id,
    items.product_id,
    products.product_name,
    products.category,
    items.quantity,
    cast(items.quantity * items.unit_price as decimal(12, 2)) as revenue,
    cast(items.quantity * products.cost as decimal(12, 2)) as cost,
    items._loaded_at
from {{ ref('stg_order_items') }} as items
inner join {{ ref('stg_products') }} as products on items.product_id = products.product_id
