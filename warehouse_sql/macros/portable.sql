{# What DuckDB and BigQuery write differently. dbt brings the rest: safe_cast, dateadd, hash. #}

{# Money: exact, two decimals. #}
{% macro as_money(expression) -%}
    {{ adapter.dispatch('as_money', 'tidegate')(expression) }}
{%- endmacro %}

{% macro default__as_money(expression) %}cast({{ expression }} as decimal(18, 2)){% endmacro %}
{% macro bigquery__as_money(expression) %}round(cast({{ expression }} as numeric), 2){% endmacro %}

{# The UTC date of an instant. #}
{% macro utc_date(instant) -%}
    {{ adapter.dispatch('utc_date', 'tidegate')(instant) }}
{%- endmacro %}

{% macro default__utc_date(instant) %}cast({{ instant }} at time zone 'UTC' as date){% endmacro %}
{% macro bigquery__utc_date(instant) %}date({{ instant }}, 'UTC'){% endmacro %}

{# Seconds from one instant to the next, with their fraction. #}
{% macro seconds_between(first, last) -%}
    {{ adapter.dispatch('seconds_between', 'tidegate')(first, last) }}
{%- endmacro %}

{% macro default__seconds_between(first, last) -%}
    date_diff('microsecond', {{ first }}, {{ last }}) / 1000000.0
{%- endmacro %}
{% macro bigquery__seconds_between(first, last) -%}
    timestamp_diff({{ last }}, {{ first }}, microsecond) / 1000000.0
{%- endmacro %}

{# Days from one date to the next. #}
{% macro days_between(first, last) -%}
    {{ adapter.dispatch('days_between', 'tidegate')(first, last) }}
{%- endmacro %}

{% macro default__days_between(first, last) %}date_diff('day', {{ first }}, {{ last }}){% endmacro %}
{% macro bigquery__days_between(first, last) %}date_diff({{ last }}, {{ first }}, day){% endmacro %}

{# The ISO week number, and the weekday from 1 (Monday) to 7 (Sunday), of a date. #}
{% macro iso_week(day) -%}
    {{ adapter.dispatch('iso_week', 'tidegate')(day) }}
{%- endmacro %}

{% macro default__iso_week(day) %}cast(extract(week from {{ day }}) as integer){% endmacro %}
{% macro bigquery__iso_week(day) %}extract(isoweek from {{ day }}){% endmacro %}

{% macro iso_weekday(day) -%}
    {{ adapter.dispatch('iso_weekday', 'tidegate')(day) }}
{%- endmacro %}

{% macro default__iso_weekday(day) %}cast(extract(isodow from {{ day }}) as integer){% endmacro %}
{% macro bigquery__iso_weekday(day) -%}
    mod(extract(dayofweek from {{ day }}) + 5, 7) + 1
{%- endmacro %}

{# One row a day, as `date_day`: the whole years from the first date of a table to its last. #}
{% macro every_day_of_years(table, column) -%}
    {{ adapter.dispatch('every_day_of_years', 'tidegate')(table, column) }}
{%- endmacro %}

{% macro default__every_day_of_years(table, column) -%}
    select cast(days.day as date) as date_day
    from (
        select unnest(generate_series(
            make_date(extract(year from min({{ column }})), 1, 1),
            make_date(extract(year from max({{ column }})), 12, 31),
            interval 1 day
        )) as day
        from {{ table }}
    ) as days
{%- endmacro %}
{% macro bigquery__every_day_of_years(table, column) -%}
    select date_day
    from (
        select generate_date_array(
            date(extract(year from min({{ column }})), 1, 1),
            date(extract(year from max({{ column }})), 12, 31)
        ) as days
        from {{ table }}
    ) as years
    cross join unnest(years.days) as date_day
{%- endmacro %}

{# What a JSON document has at a path such as '$.name', as text. #}
{% macro json_text(document, path) -%}
    {{ adapter.dispatch('json_text', 'tidegate')(document, path) }}
{%- endmacro %}

{% macro default__json_text(document, path) -%}
    json_extract_string({{ document }}, '{{ path }}')
{%- endmacro %}
{% macro bigquery__json_text(document, path) %}json_value({{ document }}, '{{ path }}'){% endmacro %}

{# A list, or a map, as JSON. #}
{% macro list_as_json(list) -%}
    {{ adapter.dispatch('list_as_json', 'tidegate')(list) }}
{%- endmacro %}

{% macro default__list_as_json(list) %}cast(to_json({{ list }}) as varchar){% endmacro %}
{% macro bigquery__list_as_json(list) %}to_json_string({{ list }}){% endmacro %}

{% macro map_as_json(map) -%}
    {{ adapter.dispatch('map_as_json', 'tidegate')(map) }}
{%- endmacro %}

{% macro default__map_as_json(map) %}cast(to_json({{ map }}) as varchar){% endmacro %}
{% macro bigquery__map_as_json(map) -%}
    (
        select concat('{', coalesce(string_agg(
            concat(to_json_string(pair.key), ':', to_json_string(pair.value)), ',' order by place
        ), ''), '}')
        from unnest({{ map }}) as pair with offset as place
    )
{%- endmacro %}

{# How many a list has; 0 for no list. #}
{% macro list_length(list) -%}
    {{ adapter.dispatch('list_length', 'tidegate')(list) }}
{%- endmacro %}

{% macro default__list_length(list) %}cast(coalesce(len({{ list }}), 0) as bigint){% endmacro %}
{% macro bigquery__list_length(list) %}coalesce(array_length({{ list }}), 0){% endmacro %}

{# A join to each `item` of a list of a table; item_number() is its place, from 1 on. #}
{% macro each_item(table, list) -%}
    {{ adapter.dispatch('each_item', 'tidegate')(table, list) }}
{%- endmacro %}

{% macro default__each_item(table, list) -%}
    cross join lateral (
        select
            unnest({{ table }}.{{ list }}) as item,
            generate_subscripts({{ table }}.{{ list }}, 1) as item_number
    ) as items
{%- endmacro %}
{% macro bigquery__each_item(table, list) -%}
    cross join unnest({{ table }}.{{ list }}) as item with offset as item_place
{%- endmacro %}

{% macro item_number() %}{{ adapter.dispatch('item_number', 'tidegate')() }}{% endmacro %}
{% macro default__item_number() %}item_number{% endmacro %}
{% macro bigquery__item_number() %}item_place + 1{% endmacro %}

{# An instant as text, in UTC, with no more digits than it needs: for keys. #}
{% macro instant_text(instant) -%}
    {{ adapter.dispatch('instant_text', 'tidegate')(instant) }}
{%- endmacro %}

{% macro default__instant_text(instant) %}cast({{ instant }} as varchar){% endmacro %}
{% macro bigquery__instant_text(instant) -%}
    concat(rtrim(rtrim(format_timestamp('%F %H:%M:%E6S', {{ instant }}, 'UTC'), '0'), '.'), '+00')
{%- endmacro %}

{# The type of an instant. #}
{% macro default__instant_type() %}timestamp with time zone{% endmacro %}
{% macro bigquery__instant_type() %}timestamp{% endmacro %}
