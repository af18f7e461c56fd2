{#
    Of each event its first copy, by arrival and then by its place in the log: the answer does not
    depend on the order in which copies came into the lake. Events that the quarantine seed names
    are left out. Copies are few: only those are sorted.
#}
{% macro first_copies(table, key) -%}
    {%- set isolated -%}
        select event_key from {{ ref('quarantined_events') }} where source = '{{ table }}'
    {%- endset -%}
    with arrived as (

        select * from {{ source('bronze', table) }}
        where {{ in_run() }}

    ),

    repeated as (

        select {{ key }} as event_key from arrived
        group by {{ key }}
        having count(*) > 1

    ),

    events as (

        select arrived.* from arrived
        where
            arrived.{{ key }} not in (select event_key from repeated)
            and arrived.{{ key }} not in ({{ isolated }})
        union all
        select arrived.* from arrived
        where
            arrived.{{ key }} in (select event_key from repeated)
            and arrived.{{ key }} not in ({{ isolated }})
        qualify row_number() over (
            partition by arrived.{{ key }}
            order by arrived.arrived_at, arrived._topic, arrived._partition, arrived._offset
        ) = 1

    )
{%- endmacro %}
