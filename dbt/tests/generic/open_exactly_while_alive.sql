{#-
    A key has exactly one open version if its row exists, and none if it does not. The dimension is derived from the output of the
    streams worker, the row from the raw changes. Both are loaded continuously and independently, so a key is left out while
    - its last change is younger than `settle_seconds` (the streams worker may not have processed it yet), or
    - the dimension is derived from changes that the raw table has not loaded yet.
-#}
{% test open_exactly_while_alive(model, key, rows, changes) %}
    with versions as (
        select
            {{ key }},
            count_if(is_current) as open_versions
        from {{ model }}
        group by {{ key }}
    ),

    rows_alive as (
        select {{ key }} from {{ rows }}
    ),

    unsettled as (
        {{ unsettled_keys(model, key, changes) | indent(8) }}
    )

    select
        coalesce(rows_alive.{{ key }}, versions.{{ key }}) as {{ key }},
        rows_alive.{{ key }} is not null as row_lives,
        coalesce(versions.open_versions, 0) as open_versions
    from rows_alive
    full outer join versions
        on rows_alive.{{ key }} = versions.{{ key }}
    left join unsettled
        on coalesce(rows_alive.{{ key }}, versions.{{ key }}) = unsettled.{{ key }}
    where
        coalesce(versions.open_versions, 0) <> iff(rows_alive.{{ key }} is null, 0, 1)
        and unsettled.{{ key }} is null
{% endtest %}
