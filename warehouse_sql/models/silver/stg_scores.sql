{{ by_date(['transaction_id']) }}

{{ first_copies('scores', 'transaction_id', '_topic, _log_partition, _offset') }}

select
    transaction_id,
    user_id,
    {{ pseudonymise('device_id') }} as device_id,
    event_timestamp,
    event_date,
    {{ as_money('total_amount') }} as total_amount,
    currency,
    score,
    decision,
    {{ list_as_json('rules') }} as rules,
    {{ list_as_json('shadow_rules') }} as shadow_rules,
    rule_set,
    model_score,
    model,
    {{ list_as_json('challengers') }} as challengers,
    _topic,
    _log_partition,
    _offset
from events
