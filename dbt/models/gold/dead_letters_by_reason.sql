select
    topic,
    stage,
    reason,
    count(*) as letters,
    min(failed_at) as first_failed_at,
    max(failed_at) as last_failed_at,
    max_by(message, record_offset) as last_message
from {{ ref('dead_letters') }}
group by topic, stage, reason
