{{ by_date(['ticket_id', 'category']) }}

{{ first_copies('customer_support', 'event_id') }}

select
    event_id,
    ticket_id,
    event_type,
    event_timestamp,
    event_date,
    user_id,
    channel,
    category,
    priority,
    order_id,
    satisfaction,
    {{ pseudonymise('agent_id') }} as agent_id,
    lateness,
    arrived_at,
    raw_offset,
    extras,
    _topic,
    _log_partition,
    _offset
from events
