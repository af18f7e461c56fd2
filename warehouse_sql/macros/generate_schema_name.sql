{# A layer's name is its schema's name: silver, gold; on BigQuery behind the warehouse's prefix. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ env_var('WAREHOUSE_PREFIX', '') }}{{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
