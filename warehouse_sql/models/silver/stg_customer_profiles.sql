{#
    Small, and a change reaches forward to every later date: made whole each time. Once a customer
    has closed the account, nothing personal is left of any version.
#}
{{ first_copies('customer_profiles', 'event_id') }},

latest as (

    select
        user_id,
        deleted_at
    from events
    qualify row_number() over (
        partition by user_id
        order by event_timestamp desc, _topic desc, _log_partition desc, _offset desc
    ) = 1

)

select
    events.event_id,
    events.user_id,
    events.event_timestamp,
    events.event_date,
    case when latest.deleted_at is null then events.email end as email,
    case when latest.deleted_at is null then events.full_name end as full_name,
    case when latest.deleted_at is null then events.phone end as phone,
    case when latest.deleted_at is null then events.address.city end as city,
    case when latest.deleted_at is null then events.address.postal_code end as postal_code,
    events.address.country as country,
    events.segment,
    events.marketing_opt_in,
    events.signed_up_at,
    events.deleted_at,
    latest.deleted_at is not null as is_deleted,
    events.lateness,
    events.arrived_at,
    events.raw_offset,
    case when latest.deleted_at is null then events.extras end as extras,
    events._topic,
    events._log_partition,
    events._offset
from events
inner join latest on events.user_id = latest.user_id
