{#
    A layer's name is its schema's name: silver, gold; on BigQuery behind the warehouse's prefix, and
    behind what says that it is being built.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ env_var('WAREHOUSE_PREFIX', '') }}{{ env_var('WAREHOUSE_BUILDING', '') -}}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
