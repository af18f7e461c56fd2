{# The fifth, 1 to 5, that a percent_rank falls into. #}
{% macro fifth(rank) -%}
    least(5, 1 + cast(floor(5 * {{ rank }}) as {{ dbt.type_int() }}))
{%- endmacro %}
