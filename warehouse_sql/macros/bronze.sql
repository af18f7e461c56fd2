{#
    A table of bronze as far as this run reads it. The lake is held still; BigQuery's tables grow
    while models and tests read them, so each slot is read up to where it was.
#}
{% macro bronze(table) -%}
    {{ adapter.dispatch('bronze', 'tidegate')(table) }}
{%- endmacro %}

{% macro default__bronze(table) %}{{ source('bronze', table) }}{% endmacro %}
{% macro bigquery__bronze(table) -%}
    {%- set slots = var('read_up_to').get(table) -%}
    {%- if slots is none -%}
        {{ source('bronze', table) }}
    {%- else -%}
        (
            select * from {{ source('bronze', table) }}
            where
                event_date >= date '1970-01-01'
                and (
                    {% for topic, partition, next_offset in slots -%}
                        {{ 'or ' if not loop.first }}(
                            _topic = '{{ topic }}'
                            and _log_partition = {{ partition }}
                            and _offset < {{ next_offset }}
                        )
                    {% else %}false{% endfor %}
                )
        )
    {%- endif -%}
{%- endmacro %}
