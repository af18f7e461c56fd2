{# Into which groups each user falls. Purchases count in the currency in which most were made. #}
with purchases as (

    select * from {{ ref('fct_user_purchases') }}
    qualify row_number() over (
        partition by user_id order by frequency desc, monetary desc, currency asc
    ) = 1

),

preferences as (

    select
        user_id,
        category
    from {{ ref('fct_user_browsing') }}
    where is_preferred

)

select
    users.user_id,
    case
        when users.is_deleted then 'closed'
        when purchases.frequency > 1 then 'repeat customer'
        when purchases.frequency = 1 then 'customer'
        when users.has_profile then 'registered'
        else 'visitor'
    end as lifecycle,
    users.profile_segment,
    coalesce(purchases.rfm_segment, 'none') as rfm_segment,
    purchases.rfm_score,
    purchases.currency,
    preferences.category as preferred_category
from {{ ref('dim_users') }} as users
left join purchases on users.user_id = purchases.user_id
left join preferences on users.user_id = preferences.user_id
