{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with changes as (
    {{ captured_changes('transactions', 'transaction_id') | indent(4) }}
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
    {{ integer('row_image:transaction_id') }} as transaction_id,
    {{ integer('row_image:account_id') }} as account_id,
    row_image:type::varchar as type,
    {{ money('row_image:amount') }} as amount,
    row_image:currency::varchar as currency,
    row_image:status::varchar as status,
    row_image:channel::varchar as channel,
    row_image:merchant_id::varchar as merchant_id,
    row_image:merchant_category::varchar as merchant_category,
    row_image:counterparty_account::varchar as counterparty_account,
    row_image:country_code::varchar as country_code,
    try_cast(row_image:latitude::varchar as number(9, 6)) as latitude,
    try_cast(row_image:longitude::varchar as number(9, 6)) as longitude,
    row_image:device_id::varchar as device_id,
    row_image:description::varchar as description,
    {{ utc('row_image:booked_at') }} as booked_at,
    {{ utc('row_image:created_at') }} as created_at
from changes
