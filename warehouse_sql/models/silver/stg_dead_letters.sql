{# By the day of arrival: a record that is no event has no other. #}
select
    reason,
    message,
    topic as raw_topic,
    letters.partition as raw_partition,
    letters.offset as raw_offset,
    arrived_at,
    event_date as arrived_on,
    contract,
    letters.key as record_key,
    letters.value as record_value,
    _topic,
    _log_partition,
    _offset
from {{ bronze('dead_letters') }} as letters
where event_date >= date '1970-01-01'
