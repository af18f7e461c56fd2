{#
    A person's identifier as a keyed pseudonym: HMAC-SHA-256, in hexadecimal. The same value gives
    the same pseudonym under one key, so that it can still be joined; without the key nobody can
    try out values.

    HMAC is hash(outer key || hash(inner key || text)), the two keys being the padded key of
    RFC 2104. SQL sees those two, never the key itself, and they are in no file of the warehouse.
#}
{% macro pseudonymise(column) -%}
    {{ adapter.dispatch('pseudonymise', 'tidegate')(column) }}
{%- endmacro %}

{% macro default__pseudonymise(column) -%}
    case when {{ column }} is not null then sha256(
        unhex(getvariable('pseudonym_outer'))
        || unhex(sha256(unhex(getvariable('pseudonym_inner')) || encode({{ column }})))
    ) end
{%- endmacro %}

{#
    On BigQuery they are the only row of a table that nobody but the builder may read. Bytes are
    joined as hexadecimal text: that is the same on every engine.
#}
{% macro bigquery__pseudonymise(column) -%}
    case when {{ column }} is not null then to_hex(sha256(from_hex(concat(
        (select outer_key from {{ pseudonym_keys() }}),
        to_hex(sha256(from_hex(concat(
            (select inner_key from {{ pseudonym_keys() }}),
            to_hex(cast({{ column }} as bytes))
        ))))
    )))) end
{%- endmacro %}

{% macro pseudonym_keys() -%}
    `{{ target.project }}`.{{ env_var('WAREHOUSE_VAULT', 'vault') }}.pseudonym_keys
{%- endmacro %}
