{# No event is lost, and none doubled, between silver and gold. #}
with silver as (

    select
        event_date,
        count(*) as event_count
    from {{ ref('stg_clickstream') }}
    where event_date >= date '1970-01-01'
    group by event_date
    union all
    select
        event_date,
        count(*) as event_count
    from {{ ref('stg_transactions') }}
    where event_date >= date '1970-01-01'
    group by event_date

),

expected as (

    select
        event_date,
        sum(event_count) as event_count
    from silver
    group by event_date

),

found as (

    select
        event_date,
        count(*) as event_count
    from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01'
    group by event_date

)

select
    expected.event_count as in_silver,
    found.event_count as in_gold
from expected
full outer join found on expected.event_date = found.event_date
where expected.event_count is distinct from found.event_count
