-- Each product has exactly one price that holds now.
select product_id
from {{ ref('product_prices') }}
group by product_id
having count(*) filter (where dbt_valid_to is null) != 1
