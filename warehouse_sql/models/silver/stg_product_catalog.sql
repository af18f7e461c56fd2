{# Small, and a change reaches forward to every later date: made whole each time. #}
{{ first_copies('product_catalog', 'event_id') }}

select
    event_id,
    product_id,
    event_timestamp,
    event_date,
    name,
    category,
    brand,
    {{ as_money('price') }} as price,
    currency,
    stock,
    active,
    {{ list_as_json('tags') }} as tags,
    {{ map_as_json('attributes') }} as attributes,
    lateness,
    arrived_at,
    raw_offset,
    extras,
    _topic,
    _log_partition,
    _offset
from events
