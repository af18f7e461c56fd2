{# Every version of every customer, and one row for those whom no profile tells of. #}
select
    {{ surrogate_key(['user_id', instant_text('valid_from')]) }} as customer_key,
    user_id,
    version,
    valid_from,
    valid_to,
    valid_to is null as is_current,
    email,
    full_name,
    phone,
    city,
    postal_code,
    country,
    segment,
    marketing_opt_in,
    signed_up_at,
    deleted_at
from {{ ref('customer_profiles_snapshot') }}
union all
select
    {{ unknown_key() }} as customer_key,
    null as user_id,
    0 as version,
    null as valid_from,
    null as valid_to,
    true as is_current,
    null as email,
    null as full_name,
    null as phone,
    null as city,
    null as postal_code,
    null as country,
    null as segment,
    null as marketing_opt_in,
    null as signed_up_at,
    null as deleted_at
