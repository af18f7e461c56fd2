{{ by_date(['user_id', 'behaviour']) }}

{#-
    The latest revision of each, under whatever date: it may turn out to have begun earlier. One
    without events takes the incident back.
#}
{{ first_copies(
    'incidents', 'incident_id', 'revision desc, _topic desc, _log_partition desc, _offset desc'
) }},

incidents as (

    select
        *,
        {{ pseudonymise('device_id') }} as device_pseudonym
    from events

)

select
    incident_id,
    behaviour,
    owner,
    severity,
    weight,
    user_id,
    device_pseudonym as device_id,
    started_at,
    ended_at,
    event_date,
    events as event_count,
    is_over,
    revision,
    case when device_id is null then text else replace(text, device_id, device_pseudonym) end
        as text,
    rule_set,
    _topic,
    _log_partition,
    _offset
from incidents
where events > 0
