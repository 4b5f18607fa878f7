{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with landed as (
    {{ landed_records('transactions', 'bank.transactions') | indent(4) }}
)

select
    record_partition,
    record_offset,
    recorded_at,
    record_value:op::varchar as operation,
    {{ integer('record_value:transaction_id') }} as transaction_id,
    {{ integer('record_value:account_id') }} as account_id,
    {{ integer('record_value:customer_id') }} as customer_id,
    record_value:type::varchar as type,
    {{ money('record_value:amount') }} as amount,
    record_value:currency::varchar as currency,
    record_value:status::varchar as status,
    {{ utc('record_value:booked_at') }} as booked_at,
    record_value:account as account,
    {{ source_position() | indent(4) }}
from landed
