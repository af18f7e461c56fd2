{# Products as they are sold now, and those sold before the catalogue was streamed. #}
with latest as (

    select
        *,
        count(*) over (partition by product_id) as change_count,
        min(event_timestamp) over (partition by product_id) as first_seen_at
    from {{ ref('stg_product_catalog') }}
    qualify row_number() over (
        partition by product_id
        order by
            event_timestamp desc, arrived_at desc,
            _topic desc, _log_partition desc, _offset desc
    ) = 1

),

streamed as (

    select
        product_id,
        name,
        category,
        brand,
        price,
        currency,
        stock,
        coalesce(active, true) as is_active,
        tags,
        attributes,
        first_seen_at,
        event_timestamp as changed_at,
        change_count,
        false as is_from_seed
    from latest

)

select * from streamed
union all
select
    product_id,
    name,
    category,
    nullif(brand, '') as brand,
    {{ as_money('price') }} as price,
    currency,
    stock,
    active as is_active,
    nullif(tags, '') as tags,
    nullif(attributes, '') as attributes,
    null as first_seen_at,
    null as changed_at,
    0 as change_count,
    true as is_from_seed
from {{ ref('product_catalog') }}
where product_id not in (select streamed.product_id from streamed)
