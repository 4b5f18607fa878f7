{{
    config(
        materialized='incremental', incremental_strategy='replace', unique_key='transaction_id', on_schema_change='fail'
    )
}}

with accounts as (
    select * from {{ ref('dim_account') }}
),

customers as (
    select * from {{ ref('dim_customer') }}
),

account_histories as (
    select
        account_id,
        count(*) + count(valid_to) as account_records
    from accounts
    group by account_id
),

customer_histories as (
    select
        customer_id,
        count(*) + count(valid_to) as customer_records
    from customers
    group by customer_id
),

{%- if is_incremental() %}

-- `outdated`: the transactions whose rows must be recomputed or deleted because of records loaded since the last run, whatever their age
held as (
    select transaction_id, account_id, customer_id, account_records, customer_records, source_partition, source_offset
    from {{ this }}
),

outdated as (
    select coalesce(living.transaction_id, held.transaction_id) as transaction_id
    from {{ ref('transactions') }} as living
    full outer join held
        on living.transaction_id = held.transaction_id
    left join account_histories
        on held.account_id = account_histories.account_id
    left join customer_histories
        on held.customer_id = customer_histories.customer_id
    where
        living.transaction_id is null
        or held.transaction_id is null
        or not equal_null(living.source_partition, held.source_partition)
        or not equal_null(living.source_offset, held.source_offset)
        or held.account_records <> coalesce(account_histories.account_records, 0)
        or held.customer_records <> coalesce(customer_histories.customer_records, 0)
),

transactions as (
    select
        living.* exclude (transaction_id),
        outdated.transaction_id
    from outdated
    left join {{ ref('transactions') }} as living
        on outdated.transaction_id = living.transaction_id
)

{%- else %}

transactions as (
    select * from {{ ref('transactions') }}
)

{%- endif %}

select
    transactions.transaction_id,
    transactions.account_id,
    accounts.customer_id,
    accounts.account_version_id,
    {{ version_match('accounts', 'account_version_id') | indent(4) }} as account_version_match,
    customers.customer_version_id,
    {{ version_match('customers', 'customer_version_id') | indent(4) }} as customer_version_match,
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
    coalesce(account_histories.account_records, 0) as account_records,
    coalesce(customer_histories.customer_records, 0) as customer_records,
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
left join account_histories
    on transactions.account_id = account_histories.account_id
left join customer_histories
    on accounts.customer_id = customer_histories.customer_id
