{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with changes as (
    {{ captured_changes('customers', 'customer_id') | indent(4) }}
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
    {{ integer('row_image:customer_id') }} as customer_id,
    row_image:name::varchar as name,
    row_image:email::varchar as email,
    row_image:phone::varchar as phone,
    {{ day('row_image:date_of_birth') }} as date_of_birth,
    row_image:address_line::varchar as address_line,
    row_image:city::varchar as city,
    row_image:country_code::varchar as country_code,
    row_image:kyc_status::varchar as kyc_status,
    row_image:risk_rating::varchar as risk_rating,
    {{ utc('row_image:created_at') }} as created_at,
    {{ utc('row_image:updated_at') }} as updated_at
from changes
