-- No store has two rows for one day, and no day of sales brings in less than nothing.
select store_id, ordered_on
from {{ ref('mart_store_daily') }}
group by store_id, ordered_on
having count(*) > 1 or min(revenue) < 0
