with moving as (
    select * from {{ ref('fct_transactions') }} where moves_money
)

select
    date_trunc('minute', moving.booked_at) as minute,
    moving.currency,
    count(*) as transaction_count,
    count_if(moving.type = 'credit') as credit_count,
    count_if(moving.type = 'debit') as debit_count,
    {{ money_sum("iff(moving.type = 'credit', moving.amount, 0)") }} as credit_amount,
    {{ money_sum("iff(moving.type = 'debit', moving.amount, 0)") }} as debit_amount,
    {{ money_sum('moving.signed_amount') }} as net_amount,
    max_by(moving.source_topic, moving.source_lsn) as source_topic,
    max_by(moving.source_partition, moving.source_lsn) as source_partition,
    max_by(moving.source_offset, moving.source_lsn) as source_offset,
    max(moving.source_lsn) as source_lsn,
    max_by(moving.source_tx_id, moving.source_lsn) as source_tx_id
from moving
group by date_trunc('minute', moving.booked_at), moving.currency
