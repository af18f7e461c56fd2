{# As many lines as the payment says that it has. #}
select
    transactions.transaction_id,
    transactions.item_count,
    count(items.transaction_id) as line_count
from {{ ref('fct_transactions') }} as transactions
left join {{ ref('fct_transaction_items') }} as items
    on
        transactions.transaction_id = items.transaction_id
        and items.event_date >= date '1970-01-01'
where transactions.event_date >= date '1970-01-01'
group by transactions.transaction_id, transactions.item_count
having count(items.transaction_id) <> transactions.item_count
