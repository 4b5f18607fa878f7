{#- The lineage of a derived record: its source change in PostgreSQL's WAL. -#}
{% macro source_position(record='record_value') -%}
    {{ record }}:source:topic::varchar as source_topic,
    {{ integer(record ~ ':source:partition') }} as source_partition,
    {{ integer(record ~ ':source:offset') }} as source_offset,
    {{ integer(record ~ ':source:lsn') }} as source_lsn,
    {{ integer(record ~ ':source:tx_id') }} as source_tx_id,
    {{ utc(record ~ ':source:commit_time') }} as committed_at
{%- endmacro %}
