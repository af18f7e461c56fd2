{#
    Of each event its first copy, by arrival and then by its place in the log, as `events`: the
    answer does not depend on the order in which copies came into the lake. Events that the
    quarantine seed names are left out. A run of some dates also looks for copies under all the
    others, for the first one may be there.

    Copies are few, so only those are sorted; and no step but the last one reads wide rows.
#}
{% macro first_copies(table, key, order='arrived_at, _topic, _log_partition, _offset') -%}
    {%- set lake = bronze(table) -%}
    {%- set some_dates = is_incremental() and var('dates') -%}
    with repeated as (

        select {{ key }} as event_key from {{ lake }}
        where
            event_date >= date '1970-01-01'
            {%- if some_dates %}
            and {{ key }} in (select {{ key }} from {{ lake }} where {{ in_run() }})
            {%- endif %}
        group by {{ key }}
        having count(*) > 1

    ),

    first_of_repeated as (

        select
            {{ key }} as event_key,
            _topic,
            _log_partition,
            _offset
        from {{ lake }}
        where
            event_date >= date '1970-01-01'
            and {{ key }} in (select event_key from repeated)
        qualify row_number() over (partition by {{ key }} order by {{ order }}) = 1

    ),

    events as (

        select lake.* from {{ lake }} as lake
        left join first_of_repeated on lake.{{ key }} = first_of_repeated.event_key
        where
            {{ in_run('lake.event_date') }}
            and (
                first_of_repeated.event_key is null
                or (
                    lake._topic = first_of_repeated._topic
                    and lake._log_partition = first_of_repeated._log_partition
                    and lake._offset = first_of_repeated._offset
                )
            )
            and lake.{{ key }} not in (
                select event_key from {{ ref('quarantined_events') }}
                where source = '{{ table }}'
            )

    )
{%- endmacro %}
