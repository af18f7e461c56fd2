{#
    How each customer buys, in each currency, and the RFM scores: fifths of all customers who buy in
    that currency, equal values in the same fifth. Recency counts from the last day that anybody
    bought, so that a build next week says the same of the same data.
#}
with purchases as (

    select * from {{ ref('fct_transactions') }}
    where is_purchase and event_date >= date '1970-01-01'

),

until as (

    select max(event_date) as last_day from purchases

),

customers as (

    select
        user_id,
        currency,
        min(event_timestamp) as first_purchase_at,
        max(event_timestamp) as last_purchase_at,
        max(event_date) as last_purchase_on,
        {{ days_between('min(event_date)', 'max(event_date)') }} as active_days,
        count(*) as frequency,
        cast(sum(item_count) as {{ dbt.type_bigint() }}) as item_count,
        {{ as_money('sum(total_amount)') }} as monetary
    from purchases
    group by user_id, currency

),

measured as (

    select
        customers.*,
        {{ days_between('customers.last_purchase_on', 'until.last_day') }} as recency_days
    from customers
    cross join until

),

ranked as (

    select
        *,
        percent_rank() over (partition by currency order by recency_days desc) as recency_rank,
        percent_rank() over (partition by currency order by frequency) as frequency_rank,
        percent_rank() over (partition by currency order by monetary) as monetary_rank
    from measured

),

scored as (

    select
        *,
        {{ fifth('recency_rank') }} as recency_score,
        {{ fifth('frequency_rank') }} as frequency_score,
        {{ fifth('monetary_rank') }} as monetary_score
    from ranked

)

select
    user_id,
    currency,
    first_purchase_at,
    last_purchase_at,
    last_purchase_on,
    recency_days,
    frequency,
    monetary,
    {{ as_money('monetary / frequency') }} as average_purchase,
    item_count,
    active_days,
    case when frequency > 1 then active_days / (frequency - 1) end as days_between_purchases,
    frequency > 1 as is_repeat_customer,
    recency_score,
    frequency_score,
    monetary_score,
    recency_score + frequency_score + monetary_score as rfm_score,
    case
        when recency_score >= 4 and frequency_score >= 4 and monetary_score >= 4 then 'champion'
        when recency_score >= 3 and frequency_score >= 3 then 'loyal'
        when recency_score >= 4 then 'recent'
        when recency_score <= 2 and frequency_score >= 3 then 'at risk'
        when recency_score <= 2 and monetary_score >= 4 then 'big spender gone quiet'
        when recency_score <= 2 then 'lost'
        else 'occasional'
    end as rfm_segment
from scored
