{{ by_date(['product_id']) }}

with items as (

    select * from {{ ref('stg_transaction_items') }}
    where {{ in_run() }}

),

transactions as (

    select * from {{ ref('fct_transactions') }}
    where {{ in_run() }}

)

select
    items.transaction_id,
    items.item_number,
    items.event_timestamp,
    items.event_date,
    transactions.user_id,
    transactions.customer_key,
    items.product_id,
    items.quantity,
    items.unit_price,
    items.amount,
    items.currency,
    transactions.is_purchase
from items
inner join transactions on items.transaction_id = transactions.transaction_id
