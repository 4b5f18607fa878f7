{#-
    The time up to which the streams worker is expected to have processed every change: `settle_seconds` before now. With
    `settle_seconds: 0`, for a log at rest, every change counts.
-#}
{% macro settled_until() -%}
    dateadd(second, -{{ var('settle_seconds') }}, convert_timezone('UTC', current_timestamp())::timestamp_ntz)
{%- endmacro %}

{#-
    Keys of an SCD2 dimension that cannot be compared with the raw changes yet: see open_exactly_while_alive. Pass `closes: false` for a
    relation whose rows have no separate closing change.
-#}
{% macro unsettled_keys(dimension, key, changes, closes=true) -%}
    select changed.{{ key }}
    from {{ changes }} as changed
    where changed.{{ key }} is not null
    group by changed.{{ key }}
    having max(changed.recorded_at) > {{ settled_until() }}

    union

    select versions.{{ key }}
    from {{ dimension }} as versions
    inner join (
        select source_partition, max(source_offset) as last_offset
        from {{ changes }}
        group by source_partition
    ) as loaded
        on
            (versions.source_partition = loaded.source_partition and versions.source_offset > loaded.last_offset)
            {%- if closes %}
            or (versions.close_source_partition = loaded.source_partition and versions.close_source_offset > loaded.last_offset)
            {%- endif %}
{%- endmacro %}
