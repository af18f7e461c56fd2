{{ by_date(['user_id', 'status']) }}

{{ first_copies('transactions', 'transaction_id') }}

select
    transaction_id,
    event_timestamp,
    event_date,
    user_id,
    {{ as_money('total_amount') }} as total_amount,
    currency,
    items,
    {{ list_length('items') }} as item_count,
    status,
    events.payment.method as payment_method,
    events.payment.card_id as card_id,
    events.payment.card_country as card_country,
    {{ pseudonymise('events.device.device_id') }} as device_id,
    events.device.user_agent as user_agent,
    events.device.language as device_language,
    device_class,
    terminal_id,
    ip_address,
    shipping_country,
    order_id,
    customer as customer_at_the_time,
    lateness,
    arrived_at,
    raw_offset,
    extras,
    _topic,
    _log_partition,
    _offset
from events
