{# The dates that this run makes anew; all of them if none are named. #}
{% macro of_run(column='event_date') -%}
    {%- if var('dates') -%}
        {{ column }} in (
            {%- for day in var('dates') %}date '{{ day }}'{{ ', ' if not loop.last }}{% endfor -%}
        )
    {%- else -%}
        {{ column }} >= date '1970-01-01'
    {%- endif -%}
{%- endmacro %}

{# The same in a model that keeps its other dates; all of them where it is made from nothing. #}
{% macro in_run(column='event_date') -%}
    {%- if is_incremental() -%}
        {{ of_run(column) }}
    {%- else -%}
        {{ column }} >= date '1970-01-01'
    {%- endif -%}
{%- endmacro %}

{#
    An incremental run replaces whole dates: what is there of them goes, also where nothing comes in
    its place. On BigQuery that is insert_overwrite of the same, static, partitions.
#}
{% macro by_date(cluster_by) -%}
    {%- set partitions = [] -%}
    {%- for day in var('dates') %}{% do partitions.append("date '" ~ day ~ "'") %}{% endfor -%}
    {{ config(
        materialized='incremental',
        incremental_strategy='insert_overwrite' if target.type == 'bigquery' else 'replace_dates',
        on_schema_change='append_new_columns',
        partition_by={'field': 'event_date', 'data_type': 'date'} if target.type == 'bigquery' else none,
        partitions=partitions,
        cluster_by=cluster_by,
        require_partition_filter=target.type == 'bigquery',
    ) }}
{%- endmacro %}

{% macro get_incremental_replace_dates_sql(arguments) -%}
    {%- set columns = arguments['dest_columns'] | map(attribute='quoted') | join(', ') -%}
    delete from {{ arguments['target_relation'] }} where {{ in_run() }};
    insert into {{ arguments['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arguments['temp_relation'] }}
{%- endmacro %}
