{#-
    The tracked columns of the open version of a key equal those of the current row. Tracked columns are all but
    BANKSTREAM_UNTRACKED_COLUMNS, as in the streams worker.
-#}
{% test last_version_is_current_state(model, key, rows, changes, columns) %}
    {%- set columns = columns | reject('in', untracked_columns()) | list %}
    with unsettled as (
        {{ unsettled_keys(model, key, changes) | indent(8) }}
    )

    select
        living.{{ key }}
        {%- for column in columns %},
        living.{{ column }} as {{ column }}_in_row,
        versions.{{ column }} as {{ column }}_in_version
        {%- endfor %}
    from {{ rows }} as living
    inner join {{ model }} as versions
        on living.{{ key }} = versions.{{ key }} and versions.is_current
    left join unsettled
        on living.{{ key }} = unsettled.{{ key }}
    where
        unsettled.{{ key }} is null
        and (
            false
            {%- for column in columns %}
            or not equal_null(living.{{ column }}, versions.{{ column }})
            {%- endfor %}
        )
{% endtest %}
