{# A join to the version of the customer that held at the row's instant, as `customer`. #}
{% macro customer_as_of(table, instant='event_timestamp') -%}
    left join {{ ref('dim_customers_scd2') }} as customer
        on
            {{ table }}.user_id = customer.user_id
            and {{ table }}.{{ instant }} >= customer.valid_from
            -- no `or`: only comparisons let engines hash an outer join
            and {{ table }}.{{ instant }}
            < coalesce(customer.valid_to, cast('9999-12-31 00:00:00+00' as {{ adapter.dispatch('instant_type', 'tidegate')() }}))
{%- endmacro %}

{# The key of that version; the unknown one before the first. #}
{% macro customer_key() -%}
    coalesce(customer.customer_key, {{ unknown_key() }})
{%- endmacro %}
