with living as (
    {{ current_rows(ref('transaction_changes'), 'transaction_id') | indent(4) }}
)

select
    transaction_id,
    account_id,
    type,
    amount,
    currency,
    status,
    channel,
    merchant_id,
    merchant_category,
    counterparty_account,
    country_code,
    latitude,
    longitude,
    device_id,
    description,
    booked_at,
    created_at,
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    committed_at
from living
