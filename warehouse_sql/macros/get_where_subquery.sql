{#
    What a test reads. Tables that are kept date by date let nobody read them on BigQuery who names
    no date; a test means all of them.
#}
{% macro bigquery__get_where_subquery(relation) -%}
    {%- set by_date = execute
        and graph.nodes[model.attached_node].config.materialized == 'incremental' -%}
    {%- set where = config.get('where') or ("event_date >= '1970-01-01'" if by_date) -%}
    {%- if where -%}
        (select * from {{ relation }} where {{ where }}) as tested
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}
