{{ by_date(['user_id']) }}

{#- The latest revision of each; a session that was merged into another has one that says so. #}
{{ first_copies(
    'sessions', 'session_id', 'revision desc, _topic desc, _log_partition desc, _offset desc'
) }}

select
    session_id,
    user_id,
    started_at,
    ended_at,
    event_date,
    event_count,
    funnel_stage,
    capped as is_capped,
    revision,
    _topic,
    _log_partition,
    _offset
from events
where superseded_by is null
