with living as (
    {{ current_rows(ref('account_changes'), 'account_id') | indent(4) }}
)

select
    account_id,
    customer_id,
    type,
    currency,
    status,
    balance,
    opened_at,
    updated_at,
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    committed_at
from living
