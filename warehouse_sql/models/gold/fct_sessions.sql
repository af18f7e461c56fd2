{{ by_date(['user_id']) }}

with sessions as (

    select * from {{ ref('stg_sessions') }}
    where {{ in_run() }}

)

select
    sessions.session_id,
    sessions.user_id,
    {{ customer_key() }} as customer_key,
    sessions.started_at,
    sessions.ended_at,
    sessions.event_date,
    {{ seconds_between('sessions.started_at', 'sessions.ended_at') }} as duration_seconds,
    sessions.event_count,
    sessions.funnel_stage,
    sessions.funnel_stage in ('cart', 'checkout', 'purchase') as has_reached_cart,
    sessions.funnel_stage in ('checkout', 'purchase') as has_reached_checkout,
    sessions.funnel_stage = 'purchase' as has_purchased,
    sessions.is_capped,
    sessions.revision,
    sessions._topic,
    sessions._log_partition,
    sessions._offset
from sessions
{{ customer_as_of('sessions', 'started_at') }}
