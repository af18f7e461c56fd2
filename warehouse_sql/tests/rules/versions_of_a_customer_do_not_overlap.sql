{# Each version ends where the next begins, and only the last one has no end. #}
with neighbours as (

    select
        user_id,
        valid_from,
        valid_to,
        lead(valid_from) over (partition by user_id order by valid_from) as next_valid_from
    from {{ ref('dim_customers_scd2') }}
    where user_id is not null

)

select * from neighbours
where valid_to is distinct from next_valid_from
