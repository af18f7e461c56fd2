{# The shop's day in figures; money in the reporting currency. #}
with days as (

    select event_date from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01'
    union distinct
    select event_date from {{ ref('fct_sessions') }}
    where event_date >= date '1970-01-01'
    union distinct
    select event_date from {{ ref('fct_support') }}

),

events as (

    select
        event_date,
        count(case when source = 'clickstream' then 1 end) as click_count,
        count(distinct user_id) as user_count,
        count(case when lateness = 'late' then 1 end) as late_count,
        count(case when lateness in ('buffered', 'expired') then 1 end) as merged_count
    from {{ ref('fct_events') }}
    where event_date >= date '1970-01-01'
    group by event_date

),

sessions as (

    select
        event_date,
        count(*) as session_count,
        count(case when has_purchased then 1 end) as purchasing_session_count
    from {{ ref('fct_sessions') }}
    where event_date >= date '1970-01-01'
    group by event_date

),

transactions as (

    select
        *,
        currency = '{{ var("reporting_currency") }}' as is_reported
    from {{ ref('fct_transactions') }}
    where event_date >= date '1970-01-01'

),

payments as (

    select
        event_date,
        count(*) as payment_count,
        count(case when is_purchase then 1 end) as purchase_count,
        count(case when is_purchase and not is_reported then 1 end)
            as purchase_in_other_currency_count,
        sum(case when is_purchase and is_reported then total_amount else 0 end) as revenue,
        count(case when label = 'fraud' then 1 end) as fraud_count
    from transactions
    group by event_date

),

alerts as (

    select
        event_date,
        count(*) as alert_count
    from {{ ref('fct_alerts') }}
    where event_date >= date '1970-01-01'
    group by event_date

),

incidents as (

    select
        event_date,
        count(*) as incident_count
    from {{ ref('fct_incidents') }}
    where event_date >= date '1970-01-01'
    group by event_date

),

tickets as (

    select
        event_date,
        count(*) as ticket_count
    from {{ ref('fct_support') }}
    group by event_date

)

select
    days.event_date,
    coalesce(events.click_count, 0) as click_count,
    coalesce(events.user_count, 0) as user_count,
    coalesce(sessions.session_count, 0) as session_count,
    coalesce(sessions.purchasing_session_count, 0) as purchasing_session_count,
    sessions.purchasing_session_count / nullif(sessions.session_count, 0) as conversion,
    coalesce(payments.payment_count, 0) as payment_count,
    coalesce(payments.purchase_count, 0) as purchase_count,
    coalesce(payments.purchase_in_other_currency_count, 0) as purchase_in_other_currency_count,
    {{ as_money('coalesce(payments.revenue, 0)') }} as revenue,
    coalesce(payments.fraud_count, 0) as fraud_count,
    coalesce(alerts.alert_count, 0) as alert_count,
    coalesce(incidents.incident_count, 0) as incident_count,
    coalesce(tickets.ticket_count, 0) as ticket_count,
    coalesce(events.late_count, 0) as late_count,
    coalesce(events.merged_count, 0) as merged_count
from days
left join events on days.event_date = events.event_date
left join sessions on days.event_date = sessions.event_date
left join payments on days.event_date = payments.event_date
left join alerts on days.event_date = alerts.event_date
left join incidents on days.event_date = incidents.event_date
left join tickets on days.event_date = tickets.event_date
