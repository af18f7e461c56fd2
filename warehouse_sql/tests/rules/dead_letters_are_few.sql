{# Records that are no event: more than 2 in 100 warn, more than 10 in 100 stop the build. #}
{{ config(
    severity='error',
    fail_calc='coalesce(max(percentage), 0)',
    warn_if='>2',
    error_if='>10',
) }}

select 100.0 * letters.record_count / nullif(letters.record_count + events.record_count, 0)
    as percentage
from (select count(*) as record_count from {{ ref('stg_dead_letters') }}) as letters
cross join (
    select count(*) as record_count from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01'
) as events
