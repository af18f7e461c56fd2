{# Everybody who has done something, or whom a profile tells of: one row each, as they are now. #}
with appearances as (

    select
        user_id,
        event_timestamp
    from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01' and user_id is not null
    union all
    select
        user_id,
        event_timestamp
    from {{ ref('stg_customer_support') }}
    where event_date >= date '1970-01-01' and user_id is not null
    union all
    select
        user_id,
        started_at as event_timestamp
    from {{ ref('stg_sessions') }}
    where event_date >= date '1970-01-01'
    union all
    select
        user_id,
        started_at as event_timestamp
    from {{ ref('stg_incidents') }}
    where event_date >= date '1970-01-01' and user_id is not null

),

seen as (

    select
        user_id,
        min(event_timestamp) as first_seen_at,
        max(event_timestamp) as last_seen_at
    from appearances
    group by user_id

),

profiles as (

    select * from {{ ref('dim_customers_scd2') }}
    where is_current and user_id is not null

)

select
    coalesce(profiles.user_id, seen.user_id) as user_id,
    profiles.customer_key as current_customer_key,
    profiles.user_id is not null as has_profile,
    profiles.deleted_at is not null as is_deleted,
    profiles.segment as profile_segment,
    profiles.country,
    profiles.marketing_opt_in,
    profiles.signed_up_at,
    profiles.deleted_at,
    seen.first_seen_at,
    seen.last_seen_at
from profiles
full outer join seen on profiles.user_id = seen.user_id
