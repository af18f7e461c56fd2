{#
    Events that are well-formed and still in no figure: later than the stream and the warehouse take
    them, without the user that they need, or named in the quarantine seed.
#}
{% set sources = {
    'clickstream': 'event_id',
    'customer_profiles': 'event_id',
    'customer_support': 'event_id',
    'labels': 'label_id',
    'product_catalog': 'event_id',
    'transactions': 'transaction_id',
} %}

with refused as (

    select
        {{ dbt.split_part('contract', "'/'", 1) }} as source,
        cast(null as {{ dbt.type_string() }}) as event_key,
        reason,
        message,
        arrived_at,
        _topic,
        _log_partition,
        _offset
    from {{ ref('stg_dead_letters') }}
    where reason in ('too_late', 'missing_user')

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
