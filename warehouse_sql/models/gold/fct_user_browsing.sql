{# What each visitor looks at: one row a category, the one most looked at first. #}
with looks as (

    select
        user_id,
        category,
        count(case when event_type = 'product_view' then 1 end) as product_view_count,
        count(case when event_type = 'category_view' then 1 end) as category_view_count,
        count(case when event_type = 'add_to_cart' then 1 end) as cart_count,
        count(distinct product_id) as product_count,
        min(event_timestamp) as first_seen_at,
        max(event_timestamp) as last_seen_at
    from {{ ref('fct_events') }}
    where
        event_date >= date '1970-01-01'
        and source = 'clickstream'
        and event_type in ('product_view', 'category_view', 'add_to_cart')
        and user_id is not null
        and category is not null
    group by user_id, category

),

counted as (

    select
        *,
        product_view_count + category_view_count as view_count
    from looks

),

shared as (

    select
        *,
        view_count / nullif(sum(view_count) over (partition by user_id), 0) as view_share,
        row_number() over (
            partition by user_id
            order by view_count desc, cart_count desc, last_seen_at desc, category asc
        ) as preference
    from counted

)

select
    user_id,
    category,
    view_count,
    product_view_count,
    category_view_count,
    cart_count,
    product_count,
    first_seen_at,
    last_seen_at,
    view_share,
    preference,
    preference = 1 as is_preferred
from shared
