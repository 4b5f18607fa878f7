{#-
    Every raw record that is not a readable row change is a dead letter, except tombstones and logical messages: no record is skipped
    silently. Records younger than `settle_seconds` are left out. `keys` has the key column of each topic. `wrapped` tests only records
    that landed as base64 or as a separate object, because JSON parsers disagree on them. The streams worker may have accepted those, so
    that test only warns. Without `wrapped`, only all other records are tested. `letters` is the relation with the dead letters if the
    model is another one, such as the changes of the table.
-#}
{% test refused_is_a_dead_letter(model, keys, wrapped=false, letters=none) %}
    with opened as (
        select
            record:topic::varchar as record_topic,
            record:partition::number(38, 0) as record_partition,
            record:offset::number(38, 0) as record_offset,
            to_timestamp_ntz(record:ts::number(38, 0), 3) as recorded_at,
            is_null_value(record:value) as no_value,
            coalesce(record:value_base64::varchar, record:large_object::varchar) is not null as is_wrapped,
            is_null_value(record:value:payload) as no_payload,
            coalesce(record:value:payload, record:value) as envelope
        from {{ source('bronze', 'cdc_events') }}
    ),

    passed_over as (
        select *
        from opened
        where
            (
                {%- for topic, key in keys.items() %}
                {% if not loop.first %}or {% endif %}(record_topic = '{{ topic }}' and not {{ is_row_change('envelope', key) }})
                {%- endfor %}
            )
            {%- if wrapped %}
            and is_wrapped
            {%- else %}
            and not is_wrapped
            and not (coalesce(no_value, true) or coalesce(no_payload, false) or equal_null(envelope:op::varchar, 'm'))
            {%- endif %}
    )

    select passed_over.record_topic, passed_over.record_partition, passed_over.record_offset
    from passed_over
    left join {{ letters or model }} as letters
        on
            passed_over.record_topic = letters.topic
            and passed_over.record_partition = letters.partition_number
            and passed_over.record_offset = letters.offset_number
    where
        letters.topic is null
        and passed_over.recorded_at <= {{ settled_until() }}
{% endtest %}
