{#
    Events that are well-formed and still in no figure: later than the stream and the warehouse take
    them, without the user that they need, or named in the quarantine seed. Late ones that somebody
    has had merged are not among them any more.
#}
{% set sources = {
    'clickstream': 'event_id',
    'customer_profiles': 'event_id',
    'customer_support': 'event_id',
    'labels': 'label_id',
    'product_catalog': 'event_id',
    'transactions': 'transaction_id',
} %}

with merged as (

    {% for table in sources -%}
        select
            'raw.{{ table }}' as raw_topic,
            events._log_partition as raw_partition,
            events.raw_offset
        from {{ bronze(table) }} as events
        where
            events.event_date >= date '1970-01-01'
            and events._topic = 'merged.{{ table }}'
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

refused as (

    select
        {{ dbt.split_part('letters.contract', "'/'", 1) }} as source,
        cast(null as {{ dbt.type_string() }}) as event_key,
        letters.reason,
        letters.message,
        letters.arrived_at,
        letters._topic,
        letters._log_partition,
        letters._offset
    from {{ ref('stg_dead_letters') }} as letters
    left join merged
        on
            letters.raw_topic = merged.raw_topic
            and letters.raw_partition = merged.raw_partition
            and letters.raw_offset = merged.raw_offset
    where
        letters.reason = 'missing_user'
        or (letters.reason = 'too_late' and merged.raw_offset is null)

),

isolated as (

    {% for table, key in sources.items() -%}
        select
            '{{ table }}' as source,
            events.{{ key }} as event_key,
            'isolated' as reason,
            seed.why as message,
            events.arrived_at,
            events._topic,
            events._log_partition,
            events._offset
        from {{ bronze(table) }} as events
        inner join {{ ref('quarantined_events') }} as seed
            on
                events.{{ key }} = seed.event_key
                and seed.source = '{{ table }}'
        where events.event_date >= date '1970-01-01'
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select * from refused
union all
select * from isolated
