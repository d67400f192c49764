with daily as (

    select
        store_id,
        ordered_on,
        count(*) as order_count,
        sum(amount) as revenue
    from {{ ref('int_orders') }}
    where status != 'returned'
    group by store_id, ordered_on

)

select
    daily.store_id,
    stores.store_name,
    regions.region_name,
    daily.ordered_on,
    daily.order_count,
    daily.revenue,
    daily.revenue >= regions.daily_target as met_target,
    sum(daily.revenue) over (
        partition by daily.store_id
        order by daily.ordered_on
        range between interval 6 day preceding and current row
    ) as revenue_last_7_days
from daily
inner join {{ ref('stg_stores') }} as stores on daily.store_id = stores.store_id
left join {{ ref('regions') }} as regions on stores.region = regions.region
