{# What was last known of each payment: the latest label, of two at one instant the last to come. #}
select
    transaction_id,
    verdict,
    origin,
    event_timestamp as labelled_at
from {{ ref('stg_labels') }}
where event_date >= date '1970-01-01'
qualify row_number() over (
    partition by transaction_id
    order by event_timestamp desc, arrived_at desc, label_id asc
) = 1
