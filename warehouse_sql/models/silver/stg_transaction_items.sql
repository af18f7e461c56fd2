{{ by_date(['product_id']) }}

with transactions as (

    select * from {{ ref('stg_transactions') }}
    where {{ in_run() }}

)

select
    transactions.transaction_id,
    cast({{ item_number() }} as {{ dbt.type_bigint() }}) as item_number,
    transactions.event_timestamp,
    transactions.event_date,
    item.product_id as product_id,
    item.quantity as quantity,
    {{ as_money('item.unit_price') }} as unit_price,
    {{ as_money('item.amount') }} as amount,
    transactions.currency,
    transactions._topic,
    transactions._log_partition,
    transactions._offset
from transactions
{{ each_item('transactions', 'items') }}
