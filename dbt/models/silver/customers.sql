with living as (
    {{ current_rows(ref('customer_changes'), 'customer_id') | indent(4) }}
)

select
    customer_id,
    name,
    email,
    phone,
    date_of_birth,
    address_line,
    city,
    country_code,
    kyc_status,
    risk_rating,
    created_at,
    updated_at,
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    committed_at
from living
