{# Each event of the lake is in silver once, unless the quarantine seed names it. #}
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
        lake.event_date
    from (
        select
            event_date,
            count(distinct {{ key }}) as event_count
        from {{ source('bronze', table) }}
        where
            event_date >= date '1970-01-01'
            and {{ key }} not in (
                select event_key from {{ ref('quarantined_events') }}
                where source = '{{ table }}'
            )
        group by event_date
    ) as lake
    left join (
        select
            event_date,
            count(*) as event_count
        from {{ ref('stg_' ~ table) }}
        where event_date >= date '1970-01-01'
        group by event_date
    ) as silver on lake.event_date = silver.event_date
    where lake.event_count is distinct from silver.event_count
    {% if not loop.last %}union all{% endif %}
{% endfor %}
