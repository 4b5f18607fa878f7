with versions as (
    {{ versions(ref('account_version_records'), 'account_id') | indent(4) }}
)

select
    version_id as account_version_id,
    account_id,
    {{ integer('attributes:customer_id') }} as customer_id,
    version_number,
    attributes:type::varchar as type,
    attributes:currency::varchar as currency,
    attributes:status::varchar as status,
    {{ utc('attributes:opened_at') }} as opened_at,
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
