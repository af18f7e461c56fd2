{# Of 1,000 records, how many are no event: more than 20 warn, more than 100 stop the build. #}
{{ config(
    severity='error',
    fail_calc='coalesce(max(per_thousand), 0)',
    warn_if='>20',
    error_if='>100',
) }}

select
    cast(
        1000 * letters.record_count / nullif(letters.record_count + events.record_count, 0)
        as {{ dbt.type_bigint() }}
    ) as per_thousand
from (select count(*) as record_count from {{ ref('stg_dead_letters') }}) as letters
cross join (
    select count(*) as record_count from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01'
) as events
