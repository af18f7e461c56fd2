{#
    Each event of the lake is in silver, unless the quarantine seed names it; maybe under the date of
    another copy.
#}
{% set sources = {
    'clickstream': 'event_id',
    'customer_profiles': 'event_id',
    'customer_support': 'event_id',
    'labels': 'label_id',
    'product_catalog': 'event_id',
    'transactions': 'transaction_id',
} %}

{% for table, key in sources.items() -%}
    select
        '{{ table }}' as source,
        lake.{{ key }} as event_key,
        lake.event_date
    from {{ bronze(table) }} as lake
    left join {{ ref('stg_' ~ table) }} as silver
        on
            lake.{{ key }} = silver.{{ key }}
            and silver.event_date >= date '1970-01-01'
    left join {{ ref('quarantined_events') }} as isolated
        on
            lake.{{ key }} = isolated.event_key
            and isolated.source = '{{ table }}'
    where
        {{ of_run('lake.event_date') }}
        and silver.{{ key }} is null
        and isolated.event_key is null
    {% if not loop.last %}union all{% endif %}
{% endfor %}
