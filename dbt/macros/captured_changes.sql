{#-
    The row changes of one captured table, Debezium's envelope opened (plain, or inside {schema, payload}): one row for each
    snapshot read, insert, update, delete and truncate. Tombstones and other messages change no row and are left out.
    `row_image` is the row after the change; for a delete, the row that went (replica identity is FULL, so it is whole).
-#}
{% macro captured_changes(table) -%}
    with landed as (
        {{ landed_records('cdc_events', 'bank.public.' ~ table, 'source_partition', 'source_offset') | indent(8) }}
    ),

    opened as (
        select landed.*, coalesce(record_value:payload, record_value) as envelope
        from landed
    )

    select
        record_topic as source_topic,
        record_partition as source_partition,
        record_offset as source_offset,
        envelope:source:lsn::number(38, 0) as source_lsn,
        envelope:source:txId::number(38, 0) as source_tx_id,
        to_timestamp_ntz(
            coalesce(envelope:source:ts_us::number(38, 0), envelope:source:ts_ms::number(38, 0) * 1000), 6
        ) as committed_at,
        recorded_at,
        envelope:op::varchar as operation,
        iff(envelope:op::varchar = 'd', envelope:before, envelope:after) as row_image
    from opened
    where envelope:op::varchar in ('r', 'c', 'u', 'd', 't')
{%- endmacro %}
