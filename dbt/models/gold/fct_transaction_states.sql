{{ config(materialized='view') }}

with records as (
    select * from {{ ref('transaction_records') }}
),

last_in_partition as (
    select record_partition, record_offset, transaction_id, source_lsn, operation, source_offset
    from records
    qualify row_number() over (
        partition by transaction_id, source_partition
        order by source_offset desc, iff(operation = 'deleted', 1, 0), record_offset desc
    ) = 1
),

last_of_all as (
    select record_partition, record_offset
    from last_in_partition
    qualify row_number() over (
        partition by transaction_id order by source_lsn desc nulls last, iff(operation = 'deleted', 1, 0), source_offset desc
    ) = 1
)

select
    records.transaction_id,
    records.operation,
    records.status,
    last_of_all.record_offset is not null as is_last,
    records.account_id,
    records.customer_id,
    records.account:type::varchar as account_type,
    records.account:status::varchar as account_status,
    records.account:currency::varchar as account_currency,
    records.type,
    records.amount,
    records.currency,
    records.booked_at,
    records.committed_at,
    records.recorded_at,
    records.record_partition,
    records.record_offset,
    records.source_topic,
    records.source_partition,
    records.source_offset,
    records.source_lsn,
    records.source_tx_id
from records
left join last_of_all
    on records.record_partition = last_of_all.record_partition and records.record_offset = last_of_all.record_offset
