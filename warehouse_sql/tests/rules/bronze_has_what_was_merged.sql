{#
    Of each source and date, bronze has as many events later than the horizon as were merged and not
    taken back. Where it has others, a merge was cut off: the same command again does what is left.
#}
{% set sources = [
    'clickstream',
    'customer_profiles',
    'customer_support',
    'labels',
    'product_catalog',
    'transactions',
] %}

with found as (

    {% for table in sources -%}
        select
            '{{ table }}' as source,
            lake.event_date,
            count(*) as event_count
        from {{ bronze(table) }} as lake
        where
            lake.event_date >= date '1970-01-01'
            and lake._topic = 'merged.{{ table }}'
        group by lake.event_date
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

decided as (

    select
        decisions.source,
        decisions.event_date,
        sum(case when decisions.action = 'merge' then decisions.events else -decisions.events end)
            as event_count
    from {{ bronze('merges') }} as decisions
    where decisions.event_date >= date '1970-01-01'
    group by decisions.source, decisions.event_date

)

select
    found.event_count as in_bronze,
    decided.event_count as by_decision
from found
full outer join decided
    on
        found.source = decided.source
        and found.event_date = decided.event_date
where coalesce(found.event_count, 0) <> coalesce(decided.event_count, 0)
