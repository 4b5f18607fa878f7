{#-
    The records of one topic in a landing table that have a value, each with its position in the log. Tombstones are skipped. A value that
    is not JSON lands as null, with its bytes in another field, and is skipped too: the streams worker has made it a dead letter. An
    incremental run reads only records after the last position in {{ this }}: a partition is loaded in offset order, object by object, so
    the highest offset defines its contents exactly. `partition_column` and `offset_column` name that position in {{ this }}.
-#}
{% macro landed_records(landing, topic, partition_column='record_partition', offset_column='record_offset') -%}
    select
        landed.record:topic::varchar as record_topic,
        landed.record:partition::number(38, 0) as record_partition,
        landed.record:offset::number(38, 0) as record_offset,
        to_timestamp_ntz(landed.record:ts::number(38, 0), 3) as recorded_at,
        landed.record:value as record_value
    from {{ source('bronze', landing) }} as landed
    {%- if is_incremental() %}
    left join (
        select {{ partition_column }} as held_partition, max({{ offset_column }}) as held_offset
        from {{ this }}
        group by {{ partition_column }}
    ) as held
        on landed.record:partition::number(38, 0) = held.held_partition
    {%- endif %}
    where
        landed.record:topic::varchar = '{{ topic }}'
        and coalesce(not is_null_value(landed.record:value), false)
    {%- if is_incremental() %}
        and landed.record:offset::number(38, 0) > coalesce(held.held_offset, -1)
    {%- endif %}
{%- endmacro %}
