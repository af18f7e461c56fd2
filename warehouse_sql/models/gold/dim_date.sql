{# Whole years, from the first to the last that has an event. #}
with events as (

    select event_date from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01'

),

days as (

    {{ every_day_of_years('events', 'event_date') }}

)

select
    date_day,
    cast(extract(year from date_day) as {{ dbt.type_int() }}) as calendar_year,
    cast(extract(quarter from date_day) as {{ dbt.type_int() }}) as calendar_quarter,
    cast(extract(month from date_day) as {{ dbt.type_int() }}) as calendar_month,
    cast(extract(day from date_day) as {{ dbt.type_int() }}) as day_of_month,
    {{ iso_week('date_day') }} as iso_week,
    {{ iso_weekday('date_day') }} as iso_weekday,
    {{ iso_weekday('date_day') }} >= 6 as is_weekend
from days
