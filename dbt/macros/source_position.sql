{#- The lineage of a derived record: the change in PostgreSQL's log that it was made from. -#}
{% macro source_position(record='record_value') -%}
    {{ record }}:source:topic::varchar as source_topic,
    {{ record }}:source:partition::number(38, 0) as source_partition,
    {{ record }}:source:offset::number(38, 0) as source_offset,
    {{ record }}:source:lsn::number(38, 0) as source_lsn,
    {{ record }}:source:tx_id::number(38, 0) as source_tx_id,
    {{ utc(record ~ ':source:commit_time') }} as committed_at
{%- endmacro %}
