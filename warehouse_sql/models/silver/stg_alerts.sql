{{ by_date(['user_id', 'severity']) }}

{{ first_copies('alerts', 'alert_id', '_topic, _log_partition, _offset') }}

select
    alert_id,
    transaction_id,
    user_id,
    {{ pseudonymise('device_id') }} as device_id,
    event_timestamp,
    event_date,
    arrived_at,
    {{ as_money('total_amount') }} as total_amount,
    currency,
    score,
    severity,
    decision,
    {{ list_as_json('reasons') }} as reasons,
    {{ list_length('reasons') }} as reason_count,
    {{ json_text(list_as_json('reasons'), '$[0].rule') }} as first_reason,
    rule_set,
    coalesce(group_id, alert_id) as group_id,
    _topic,
    _log_partition,
    _offset
from events
