{#
    What was known of each customer, and from when to when, by event time. dbt's own snapshots say
    when a build noticed a change; this says when it happened, however late it came in. Changes that
    change nothing are no version.
#}
{% set attributes = [
    'email', 'full_name', 'phone', 'city', 'postal_code', 'country', 'segment', 'marketing_opt_in',
    'signed_up_at', 'deleted_at'
] %}

with changes as (

    select
        *,
        {{ surrogate_key(attributes) }} as content
    from {{ ref('stg_customer_profiles') }}
    -- of two changes at one instant the one that arrived last
    qualify row_number() over (
        partition by user_id, event_timestamp
        order by arrived_at desc, _topic desc, _log_partition desc, _offset desc
    ) = 1

),

compared as (

    select
        *,
        lag(content) over (partition by user_id order by event_timestamp) as content_before
    from changes

),

versions as (

    select * from compared
    where content_before is null or content_before <> content

)

select
    user_id,
    row_number() over (partition by user_id order by event_timestamp) as version,
    event_timestamp as valid_from,
    lead(event_timestamp) over (partition by user_id order by event_timestamp) as valid_to,
    {% for attribute in attributes -%}
        {{ attribute }},
    {% endfor -%}
    is_deleted,
    event_id
from versions
