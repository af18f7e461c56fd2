{# One row a ticket. Its steps lie on several dates: made whole each time. #}
with steps as (

    select * from {{ ref('stg_customer_support') }}
    where event_date >= date '1970-01-01'

),

tickets as (

    select
        ticket_id,
        min(user_id) as user_id,
        min(event_timestamp) as first_step_at,
        min(case when event_type = 'opened' then event_timestamp end) as opened_at,
        min(case when event_type = 'resolved' then event_timestamp end) as first_resolved_at,
        max(case when event_type = 'resolved' then event_timestamp end) as last_resolved_at,
        max(case when event_type = 'reopened' then event_timestamp end) as last_reopened_at,
        max(event_timestamp) as last_step_at,
        count(case when event_type = 'message' then 1 end) as message_count,
        count(case when event_type = 'escalated' then 1 end) as escalation_count,
        count(case when event_type = 'reopened' then 1 end) as reopening_count
    from steps
    group by ticket_id

),

described as (

    select
        ticket_id,
        channel,
        category,
        priority,
        order_id
    from steps
    qualify row_number() over (
        partition by ticket_id order by event_timestamp, arrived_at, event_id
    ) = 1

),

rated as (

    select
        ticket_id,
        satisfaction
    from steps
    where satisfaction is not null
    qualify row_number() over (
        partition by ticket_id order by event_timestamp desc, arrived_at desc, event_id asc
    ) = 1

)

select
    tickets.ticket_id,
    tickets.user_id,
    {{ customer_key() }} as customer_key,
    {{ utc_date('tickets.first_step_at') }} as event_date,
    tickets.first_step_at,
    tickets.opened_at,
    tickets.first_resolved_at,
    tickets.last_resolved_at,
    tickets.last_step_at,
    tickets.last_resolved_at is not null
    and (
        tickets.last_reopened_at is null
        or tickets.last_reopened_at < tickets.last_resolved_at
    ) as is_resolved,
    {{ seconds_between('tickets.first_step_at', 'tickets.first_resolved_at') }} / 3600.0
        as hours_to_resolution,
    described.channel,
    described.category,
    described.priority,
    described.order_id,
    tickets.message_count,
    tickets.escalation_count,
    tickets.reopening_count,
    rated.satisfaction
from tickets
inner join described on tickets.ticket_id = described.ticket_id
left join rated on tickets.ticket_id = rated.ticket_id
{{ customer_as_of('tickets', 'first_step_at') }}
