{#
    Of each event its first copy, by arrival and then by its place in the log: the answer does not
    depend on the order in which copies came into the lake. Events that the quarantine seed names
    are left out. Copies are few: only those are sorted. A run of some dates also looks for copies
    under all the others, which may be the first ones.
#}
{% macro first_copies(table, key, order='arrived_at, _topic, _partition, _offset') -%}
    with arrived as (

        select * from {{ source('bronze', table) }}
        where
            {{ in_run() }}
            and {{ key }} not in (
                select event_key from {{ ref('quarantined_events') }}
                where source = '{{ table }}'
            )

    ),

    copies as (

        select * from arrived
        {%- if is_incremental() and var('dates') %}
        union all
        select * from {{ source('bronze', table) }}
        where
            event_date >= date '1970-01-01'
            and not {{ in_run() }}
            and {{ key }} in (select {{ key }} from arrived)
        {%- endif %}

    ),

    repeated as (

        select {{ key }} as event_key from copies
        group by {{ key }}
        having count(*) > 1

    ),

    first_of_repeated as (

        select
            _topic,
            _partition,
            _offset
        from copies
        where {{ key }} in (select event_key from repeated)
        qualify row_number() over (partition by {{ key }} order by {{ order }}) = 1

    ),

    events as (

        select arrived.* from arrived
        where arrived.{{ key }} not in (select event_key from repeated)
        union all
        select arrived.* from arrived
        inner join first_of_repeated
            on
                arrived._topic = first_of_repeated._topic
                and arrived._partition = first_of_repeated._partition
                and arrived._offset = first_of_repeated._offset
        where arrived.{{ key }} in (select event_key from repeated)
        -- a row that the lake has twice is one
        qualify row_number() over (
            partition by arrived._topic, arrived._partition, arrived._offset
            order by arrived.event_date
        ) = 1

    )
{%- endmacro %}
