{{ by_date(['user_id']) }}

with revisions as (

    select * from {{ source('bronze', 'sessions') }}
    where {{ in_run() }}

),

latest as (

    select * from revisions
    qualify row_number() over (
        partition by session_id
        order by revision desc, _topic desc, _partition desc, _offset desc
    ) = 1

)

select
    session_id,
    user_id,
    started_at,
    ended_at,
    event_date,
    event_count,
    funnel_stage,
    capped as is_capped,
    revision,
    _topic,
    _partition,
    _offset
from latest
where superseded_by is null
