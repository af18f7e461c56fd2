{{ by_date(['user_id', 'event_type']) }}

{{ first_copies('clickstream', 'event_id') }}

select
    event_id,
    event_type,
    event_timestamp,
    event_date,
    user_id,
    page_url,
    page_title,
    referrer,
    product_id,
    category,
    search_query,
    quantity,
    order_id,
    events.cart.cart_id as cart_id,
    events.cart.item_count as cart_item_count,
    events.cart.value as cart_value,
    {{ pseudonymise('events.device.device_id') }} as device_id,
    events.device.user_agent as user_agent,
    events.device.language as device_language,
    device_class,
    ip_address,
    events.geo.country as country,
    events.geo.city as city,
    campaign,
    product as product_at_the_time,
    customer as customer_at_the_time,
    lateness,
    arrived_at,
    raw_offset,
    extras,
    _topic,
    _log_partition,
    _offset
from events
