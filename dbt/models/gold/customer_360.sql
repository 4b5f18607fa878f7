with versions as (
    select
        customer_id,
        min(valid_from) as known_since,
        count(*) as version_count,
        max(valid_from) as last_changed_at
    from {{ ref('dim_customer') }}
    group by customer_id
),

accounts as (
    select
        customer_id,
        count(*) as account_count
    from {{ ref('accounts') }}
    group by customer_id
),

transactions as (
    select
        customer_id,
        count_if(moves_money) as transaction_count,
        count_if(moves_money and type = 'credit') as credit_count,
        count_if(moves_money and type = 'debit') as debit_count,
        count_if(status = 'declined') as declined_count,
        max(booked_at) as last_booked_at
    from {{ ref('fct_transactions') }}
    group by customer_id
),

alerts as (
    select
        customer_id,
        count(*) as alert_count,
        max(event_time) as last_alert_at
    from {{ ref('fct_alerts') }}
    group by customer_id
)

select
    living.customer_id,
    living.name,
    living.city,
    living.country_code,
    living.kyc_status,
    living.risk_rating,
    versions.known_since,
    coalesce(versions.version_count, 0) as version_count,
    versions.last_changed_at,
    coalesce(accounts.account_count, 0) as account_count,
    coalesce(transactions.transaction_count, 0) as transaction_count,
    coalesce(transactions.credit_count, 0) as credit_count,
    coalesce(transactions.debit_count, 0) as debit_count,
    coalesce(transactions.declined_count, 0) as declined_count,
    transactions.last_booked_at,
    coalesce(alerts.alert_count, 0) as alert_count,
    alerts.last_alert_at,
    living.source_topic,
    living.source_partition,
    living.source_offset,
    living.source_lsn,
    living.source_tx_id
from {{ ref('customers') }} as living
left join versions
    on living.customer_id = versions.customer_id
left join accounts
    on living.customer_id = accounts.customer_id
left join transactions
    on living.customer_id = transactions.customer_id
left join alerts
    on living.customer_id = alerts.customer_id
