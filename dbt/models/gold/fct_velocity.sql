{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with landed as (
    {{ landed_records('velocity', 'bank.velocity') | indent(4) }}
),

opened as (
    select
        {{ integer('record_value:transaction_id') }} as transaction_id,
        {{ integer('record_value:customer_id') }} as customer_id,
        {{ integer('record_value:account_id') }} as account_id,
        {{ utc('record_value:event_time') }} as event_time,
        try_cast(record_value:seconds_since_previous::varchar as number(18, 6)) as seconds_since_previous,
        record_value:windows as all_windows,
        record_partition,
        record_offset,
        recorded_at,
        {{ source_position() | indent(8) }}
    from landed
)

select
    transaction_id,
    customer_id,
    account_id,
    event_time,
    windows.key::varchar as window_name,
    {{ integer('windows.value:count') }} as transaction_count,
    try_cast(windows.value:sum::varchar as number(38, 2)) as amount_sum,
    try_cast(windows.value:average::varchar as number(38, 2)) as amount_average,
    {{ money('windows.value:max') }} as amount_max,
    windows.value as measures,
    seconds_since_previous,
    record_partition,
    record_offset,
    recorded_at,
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    committed_at
from opened, lateral flatten(input => opened.all_windows) as windows
