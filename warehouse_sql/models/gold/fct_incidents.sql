{{ by_date(['user_id', 'behaviour']) }}

with incidents as (

    select * from {{ ref('stg_incidents') }}
    where {{ in_run() }}

)

select
    incidents.incident_id,
    incidents.behaviour,
    incidents.owner,
    incidents.severity,
    incidents.weight,
    incidents.user_id,
    incidents.device_id,
    {{ customer_key() }} as customer_key,
    incidents.started_at,
    incidents.ended_at,
    incidents.event_date,
    {{ seconds_between('incidents.started_at', 'incidents.ended_at') }} as duration_seconds,
    incidents.event_count,
    incidents.is_over,
    incidents.text,
    incidents.rule_set,
    incidents._topic,
    incidents._log_partition,
    incidents._offset
from incidents
{{ customer_as_of('incidents', 'started_at') }}
