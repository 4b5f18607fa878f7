{#- Counts and sums of the transactions of a minute, and the newest change among them. Without a transaction, lineage is NULL. -#}
{% macro volume_measures() -%}
    count(moving.transaction_id) as transaction_count,
    count_if(moving.type = 'credit') as credit_count,
    count_if(moving.type = 'debit') as debit_count,
    {{ money_sum("iff(moving.type = 'credit', moving.amount, 0)") }} as credit_amount,
    {{ money_sum("iff(moving.type = 'debit', moving.amount, 0)") }} as debit_amount,
    {{ money_sum('moving.signed_amount') }} as net_amount,
    max(iff(moving.newest = 1, moving.source_topic, null)) as source_topic,
    max(iff(moving.newest = 1, moving.source_partition, null)) as source_partition,
    max(iff(moving.newest = 1, moving.source_offset, null)) as source_offset,
    max(iff(moving.newest = 1, moving.source_lsn, null)) as source_lsn,
    max(iff(moving.newest = 1, moving.source_tx_id, null)) as source_tx_id
{%- endmacro %}
