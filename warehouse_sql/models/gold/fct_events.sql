{{ by_date(['user_id', 'event_type']) }}

with clicks as (

    select
        'clickstream' as source,
        event_id,
        event_type,
        event_timestamp,
        event_date,
        user_id,
        product_id,
        coalesce(category, {{ json_text('product_at_the_time', '$.category') }}) as category,
        order_id,
        quantity,
        cart_value as amount,
        cast(null as {{ dbt.type_string() }}) as currency,
        device_class,
        country,
        campaign,
        lateness,
        _topic,
        _log_partition,
        _offset
    from {{ ref('stg_clickstream') }}
    where {{ in_run() }}

),

payments as (

    select
        'transactions' as source,
        transaction_id as event_id,
        'payment' as event_type,
        event_timestamp,
        event_date,
        user_id,
        cast(null as {{ dbt.type_string() }}) as product_id,
        cast(null as {{ dbt.type_string() }}) as category,
        order_id,
        item_count as quantity,
        total_amount as amount,
        currency,
        device_class,
        shipping_country as country,
        cast(null as {{ dbt.type_string() }}) as campaign,
        lateness,
        _topic,
        _log_partition,
        _offset
    from {{ ref('stg_transactions') }}
    where {{ in_run() }}

),

events as (

    select * from clicks
    union all
    select * from payments

)

select
    events.source,
    events.event_id,
    events.event_type,
    events.event_timestamp,
    events.event_date,
    events.user_id,
    {{ customer_key() }} as customer_key,
    events.product_id,
    events.category,
    events.order_id,
    events.quantity,
    {{ as_money('events.amount') }} as amount,
    events.currency,
    events.device_class,
    events.country,
    events.campaign,
    events.lateness,
    events._topic,
    events._log_partition,
    events._offset
from events
{{ customer_as_of('events') }}
