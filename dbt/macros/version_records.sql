{#-
    The open and close records of an SCD2 topic, typed, one row for each record. `names` maps key columns of the source to warehouse names, where
    they differ.
-#}
{% macro version_records(landing, topic, key, names={}) -%}
    with landed as (
        {{ landed_records(landing, topic) | indent(8) }}
    )

    select
        record_partition,
        record_offset,
        recorded_at,
        record_value:op::varchar as operation,
        record_value:version_id::varchar as version_id,
        {%- for column, type in ({key: 'integer'} if key is string else key).items() %}
        {{ key_value('record_value:key', column, type) }} as {{ names.get(column, column) }},
        {%- endfor %}
        {{ utc('record_value:valid_from') }} as valid_from,
        {{ utc('record_value:valid_to') }} as valid_to,
        record_value:reason::varchar as reason,
        record_value:changed as changed,
        record_value:attributes as attributes,
        {{ source_position() | indent(8) }}
    from landed
{%- endmacro %}
