{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with changes as (
    {{ captured_changes('accounts', 'account_id') | indent(4) }}
)

select
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    committed_at,
    recorded_at,
    operation,
    ends_snapshot,
    {{ integer('row_image:account_id') }} as account_id,
    {{ integer('row_image:customer_id') }} as customer_id,
    row_image:type::varchar as type,
    row_image:currency::varchar as currency,
    row_image:status::varchar as status,
    {{ money('row_image:balance') }} as balance,
    {{ utc('row_image:opened_at') }} as opened_at,
    {{ utc('row_image:updated_at') }} as updated_at
from changes
