with versions as (
    {{ versions(ref('customer_version_records'), 'customer_id') | indent(4) }}
)

select
    version_id as customer_version_id,
    customer_id,
    version_number,
    attributes:name::varchar as name,
    attributes:email::varchar as email,
    attributes:phone::varchar as phone,
    {{ day('attributes:date_of_birth') }} as date_of_birth,
    attributes:address_line::varchar as address_line,
    attributes:city::varchar as city,
    attributes:country_code::varchar as country_code,
    attributes:kyc_status::varchar as kyc_status,
    attributes:risk_rating::varchar as risk_rating,
    {{ utc('attributes:created_at') }} as created_at,
    valid_from,
    closed_at as valid_to,
    is_current,
    joins_from,
    joins_to,
    reason as open_reason,
    close_reason,
    changed,
    attributes,
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    close_source_topic,
    close_source_partition,
    close_source_offset,
    close_source_lsn,
    close_source_tx_id
from versions
