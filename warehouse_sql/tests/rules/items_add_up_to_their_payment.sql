{# A payment with items costs what its items cost. #}
select
    transactions.transaction_id,
    transactions.total_amount,
    sum(items.amount) as sum_of_items
from {{ ref('fct_transactions') }} as transactions
inner join {{ ref('fct_transaction_items') }} as items
    on transactions.transaction_id = items.transaction_id
where
    transactions.event_date >= date '1970-01-01'
    and items.event_date >= date '1970-01-01'
group by transactions.transaction_id, transactions.total_amount
having sum(items.amount) <> transactions.total_amount
