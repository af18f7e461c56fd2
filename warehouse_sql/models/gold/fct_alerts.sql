{{ by_date(['user_id', 'severity']) }}

with alerts as (

    select * from {{ ref('stg_alerts') }}
    where {{ in_run() }}

)

select
    alerts.alert_id,
    alerts.transaction_id,
    alerts.event_timestamp,
    alerts.event_date,
    alerts.user_id,
    {{ customer_key() }} as customer_key,
    alerts.total_amount,
    alerts.currency,
    alerts.score,
    alerts.severity,
    alerts.decision,
    alerts.reasons,
    alerts.reason_count,
    alerts.first_reason,
    coalesce(labels.verdict, 'unknown') as outcome,
    labels.labelled_at,
    alerts.rule_set,
    alerts.group_id,
    alerts._topic,
    alerts._log_partition,
    alerts._offset
from alerts
left join {{ ref('last_labels') }} as labels
    on alerts.transaction_id = labels.transaction_id
{{ customer_as_of('alerts') }}
