with transactions as (
    select * from {{ ref('transactions') }}
),

accounts as (
    select * from {{ ref('dim_account') }}
),

customers as (
    select * from {{ ref('dim_customer') }}
)

select
    transactions.transaction_id,
    transactions.account_id,
    accounts.customer_id,
    accounts.account_version_id,
    {{ version_match('accounts', 'account_version_id') }} as account_version_match,
    customers.customer_version_id,
    {{ version_match('customers', 'customer_version_id') }} as customer_version_match,
    transactions.type,
    transactions.amount,
    iff(transactions.type = 'credit', transactions.amount, -transactions.amount)::number(18, 2) as signed_amount,
    transactions.currency,
    transactions.status,
    transactions.status in ('pending', 'posted') as moves_money,
    transactions.channel,
    transactions.merchant_id,
    transactions.merchant_category,
    transactions.counterparty_account,
    transactions.country_code,
    transactions.latitude,
    transactions.longitude,
    transactions.device_id,
    transactions.description,
    transactions.booked_at,
    transactions.created_at,
    transactions.committed_at,
    transactions.source_topic,
    transactions.source_partition,
    transactions.source_offset,
    transactions.source_lsn,
    transactions.source_tx_id
from transactions
left join accounts
    on
        transactions.account_id = accounts.account_id
        and transactions.booked_at >= accounts.joins_from
        and transactions.booked_at < accounts.joins_to
left join customers
    on
        accounts.customer_id = customers.customer_id
        and transactions.booked_at >= customers.joins_from
        and transactions.booked_at < customers.joins_to
