{{
    config(
        materialized='incremental', incremental_strategy='replace', unique_key=['minute', 'currency'], on_schema_change='fail'
    )
}}

-- depends_on: {{ ref('transaction_changes') }}, {{ ref('dead_letters') }}

with moving as (
    select
        *,
        date_trunc('minute', booked_at) as minute,
        row_number() over (
            partition by date_trunc('minute', booked_at), currency
            order by source_lsn desc nulls last, source_partition desc, source_offset desc
        ) as newest
    from {{ ref('fct_transactions') }}
    where moves_money
)

{%- if is_incremental() %},

{#-
    `touched`: the minutes of every change loaded since the last run, whatever its event time. `held` has, for each partition, an offset up
    to which all changes are counted. It may be too low, never too high.
#}
held as (
    select source_partition, max(source_offset) as held_offset
    from {{ this }}
    group by source_partition
),

fresh as (
    select changed.transaction_id, changed.operation, changed.ends_snapshot
    from {{ ref('transaction_changes') }} as changed
    left join held
        on changed.source_partition = held.source_partition
    where changed.source_offset > coalesce(held.held_offset, -1)

    union all

    select changed.transaction_id, changed.operation, changed.ends_snapshot  -- a refusal may be loaded after its change
    from {{ ref('transaction_changes') }} as changed
    inner join {{ ref('dead_letters') }} as refused
        on
            changed.source_topic = refused.topic
            and changed.source_partition = refused.partition_number
            and changed.source_offset = refused.offset_number
),

touched as (
    select distinct
        date_trunc('minute', booked_at) as minute,
        currency
    from {{ ref('transaction_changes') }}
    where transaction_id in (select transaction_id from fresh)

    union

    select minute, currency  -- a truncate, or a complete snapshot, can delete any row
    from {{ this }}
    where exists (select 1 from fresh where operation = 't' or ends_snapshot)
)

select
    touched.minute,
    touched.currency,
    {{ volume_measures() | indent(4) }}
from touched
left join moving
    on touched.minute = moving.minute and touched.currency = moving.currency
where touched.minute is not null and touched.currency is not null
group by touched.minute, touched.currency
{%- else %}

select
    minute,
    currency,
    {{ volume_measures() | indent(4) }}
from moving
group by minute, currency
{%- endif %}
