{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with landed as (
    {{ landed_records('alerts', 'bank.alerts') | indent(4) }}
)

select
    record_value:alert_id::varchar as alert_id,
    record_value:rule::varchar as rule,
    record_value:severity::varchar as severity,
    try_cast(record_value:score::varchar as number(9, 4)) as score,
    {{ integer('record_value:customer_id') }} as customer_id,
    {{ integer('record_value:account_id') }} as account_id,
    {{ integer('record_value:transaction_id') }} as transaction_id,
    {{ utc('record_value:event_time') }} as event_time,
    {{ utc('record_value:detected_at') }} as detected_at,
    record_value:explanation::varchar as explanation,
    record_value:features as features,
    record_value:evidence as evidence,
    record_partition,
    record_offset,
    recorded_at,
    {{ source_position() | indent(4) }}
from landed
