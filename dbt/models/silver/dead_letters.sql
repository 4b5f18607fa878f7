{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with landed as (
    {{ landed_records('dead_letters', 'bank.dead-letters') | indent(4) }}
)

select
    {{ refused_position('record_value') | indent(4) }},
    record_value:reason::varchar as reason,
    record_value:stage::varchar as stage,
    record_value:error::varchar as error,
    record_value:message::varchar as message,
    {{ utc('record_value:failed_at') }} as failed_at,
    record_partition,
    record_offset,
    recorded_at
from landed
