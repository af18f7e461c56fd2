{#
    How far each visitor has come in each category: the first look; the first time after it that
    something of the category went into the basket; the first checkout after that; the first
    purchase after that with something of the category in it.
#}
with clicks as (

    select
        user_id,
        category,
        event_type,
        event_timestamp
    from {{ ref('fct_events') }}
    where
        event_date >= date '1970-01-01'
        and source = 'clickstream'
        and event_type in ('product_view', 'category_view', 'add_to_cart', 'checkout_start')
        and user_id is not null

),

views as (

    select
        user_id,
        category,
        min(event_timestamp) as viewed_at
    from clicks
    where event_type in ('product_view', 'category_view') and category is not null
    group by user_id, category

),

carts as (

    select
        views.user_id,
        views.category,
        min(clicks.event_timestamp) as carted_at
    from views
    inner join clicks
        on
            views.user_id = clicks.user_id
            and views.category = clicks.category
            and clicks.event_type = 'add_to_cart'
            and views.viewed_at <= clicks.event_timestamp
    group by views.user_id, views.category

),

checkouts as (

    select
        carts.user_id,
        carts.category,
        min(clicks.event_timestamp) as checkout_at
    from carts
    inner join clicks
        on
            carts.user_id = clicks.user_id
            and clicks.event_type = 'checkout_start'
            and carts.carted_at <= clicks.event_timestamp
    group by carts.user_id, carts.category

),

bought as (

    select
        items.user_id,
        products.category,
        items.event_timestamp
    from {{ ref('fct_transaction_items') }} as items
    inner join {{ ref('dim_products') }} as products on items.product_id = products.product_id
    where items.is_purchase and items.event_date >= date '1970-01-01'

),

purchases as (

    select
        checkouts.user_id,
        checkouts.category,
        min(bought.event_timestamp) as purchased_at
    from checkouts
    inner join bought
        on
            checkouts.user_id = bought.user_id
            and checkouts.category = bought.category
            and checkouts.checkout_at <= bought.event_timestamp
    group by checkouts.user_id, checkouts.category

)

select
    views.user_id,
    views.category,
    views.viewed_at,
    carts.carted_at,
    checkouts.checkout_at,
    purchases.purchased_at,
    case
        when purchases.purchased_at is not null then 'purchase'
        when checkouts.checkout_at is not null then 'checkout'
        when carts.carted_at is not null then 'cart'
        else 'view'
    end as stage,
    purchases.purchased_at is not null as is_converted,
    {{ seconds_between('views.viewed_at', 'purchases.purchased_at') }} / 3600.0 as hours_to_purchase
from views
left join carts
    on views.user_id = carts.user_id and views.category = carts.category
left join checkouts
    on views.user_id = checkouts.user_id and views.category = checkouts.category
left join purchases
    on views.user_id = purchases.user_id and views.category = purchases.category
