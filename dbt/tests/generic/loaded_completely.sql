{#-
    An incremental model has every record of its landing table up to the model's last position. The test finds what the last position
    alone does not show: records that landed below it, and a recreated topic whose offsets start at 0 again. With a `key`, the records
    are changes of rows with that key column.
-#}
{% test loaded_completely(model, landing, topic, key=none, partition_column='record_partition', offset_column='record_offset') %}
    with held as (
        select
            {{ partition_column }} as log_partition,
            max({{ offset_column }}) as last_offset,
            count(distinct {{ offset_column }}) as records
        from {{ model }}
        group by {{ partition_column }}
    ),

    opened as (
        select
            record:partition::number(38, 0) as log_partition,
            record:offset::number(38, 0) as log_offset,
            {{ 'coalesce(record:value:payload, record:value)' if key else 'record:value' }} as envelope
        from {{ source('bronze', landing) }}
        where record:topic::varchar = '{{ topic }}'
    ),

    landed as (
        select *
        from opened
        where {{ is_row_change('envelope', key) if key else 'coalesce(not is_null_value(envelope), false)' }}
    ),

    landed_by_partition as (
        select
            landed.log_partition,
            count(*) as records
        from landed
        inner join held
            on landed.log_partition = held.log_partition and landed.log_offset <= held.last_offset
        group by landed.log_partition
    )

    select
        held.log_partition,
        held.records as records_held,
        landed_by_partition.records as records_landed
    from held
    left join landed_by_partition
        on held.log_partition = landed_by_partition.log_partition
    where not equal_null(held.records, landed_by_partition.records)
{% endtest %}
