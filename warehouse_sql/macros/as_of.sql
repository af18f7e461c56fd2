{# A join to the version of the customer that held at the row's instant, as `customer`. #}
{% macro customer_as_of(table, instant='event_timestamp') -%}
    left join {{ ref('dim_customers_scd2') }} as customer
        on
            {{ table }}.user_id = customer.user_id
            and {{ table }}.{{ instant }} >= customer.valid_from
            and (customer.valid_to is null or {{ table }}.{{ instant }} < customer.valid_to)
{%- endmacro %}

{# The key of that version; the unknown one before the first. #}
{% macro customer_key() -%}
    coalesce(customer.customer_key, {{ unknown_key() }})
{%- endmacro %}
