{{ by_date(['user_id', 'status']) }}

with transactions as (

    select * from {{ ref('stg_transactions') }}
    where {{ in_run() }}

),

scores as (

    select * from {{ ref('stg_scores') }}
    where {{ in_run() }}

)

select
    transactions.transaction_id,
    transactions.event_timestamp,
    transactions.event_date,
    transactions.user_id,
    {{ customer_key() }} as customer_key,
    transactions.order_id,
    transactions.total_amount,
    transactions.currency,
    transactions.item_count,
    transactions.status,
    coalesce(transactions.status, 'captured') not in ('declined', 'refunded') as is_purchase,
    transactions.payment_method,
    transactions.card_country,
    transactions.shipping_country,
    transactions.device_id,
    transactions.device_class,
    scores.score,
    scores.decision,
    labels.verdict as label,
    labels.origin as label_origin,
    labels.labelled_at,
    transactions.lateness,
    transactions._topic,
    transactions._log_partition,
    transactions._offset
from transactions
left join scores
    on
        transactions.transaction_id = scores.transaction_id
        and transactions.event_date = scores.event_date
left join {{ ref('last_labels') }} as labels
    on transactions.transaction_id = labels.transaction_id
{{ customer_as_of('transactions') }}
