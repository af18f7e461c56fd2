{{ by_date(['transaction_id', 'verdict']) }}

{{ first_copies('labels', 'label_id') }}

select
    label_id,
    transaction_id,
    event_timestamp,
    event_date,
    user_id,
    verdict,
    origin,
    note,
    lateness,
    arrived_at,
    raw_offset,
    extras,
    _topic,
    _log_partition,
    _offset
from events
