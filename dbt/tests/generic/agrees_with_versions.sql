{#-
    dbt's snapshots, which are derived from the raw changes, agree with the versions from the streams worker:
    - each snapshot row has a position in the log. The version at that position is the last one opened at or before it in the row's
      partition. It had not ended before the position, and its columns equal those of the snapshot row;
    - a row that the last snapshot run found belongs to an open version;
    - each open version has exactly one row that the last snapshot run found.
    A snapshot misses the changes between two runs, so it may have fewer rows than there are versions, and its times are those of the
    runs. Neither is compared. Rows from changes that the streams worker refused after a run are left out, and so are the keys that
    open_exactly_while_alive leaves out. Run in the order of `dbt build`: rows, snapshots, this test.
-#}
{% test agrees_with_versions(model, versions, key, version_id, changes, columns) %}
    {%- set columns = columns | reject('in', untracked_columns()) | list %}
    with unsettled as (
        {{ unsettled_keys(versions, key, changes) | indent(8) }}
    ),

    seen as (
        {{ not_refused(model) | indent(8) }}
    ),

    placed as (
        select
            seen.{{ key }},
            seen.dbt_scd_id,
            seen.dbt_valid_to is null as seen_last,
            seen.source_partition as seen_partition,
            seen.source_offset as seen_offset,
            versions.{{ version_id }},
            versions.is_current,
            versions.close_source_partition,
            versions.close_source_offset,
            {%- for column in columns %}
            equal_null(seen.{{ column }}, versions.{{ column }}){{ ' and' if not loop.last else ' as is_equal' }}
            {%- endfor %}
        from seen
        left join {{ versions }} as versions
            on
                seen.{{ key }} = versions.{{ key }}
                and seen.source_partition = versions.source_partition
                and seen.source_offset >= versions.source_offset
        qualify row_number() over (partition by seen.dbt_scd_id order by versions.source_offset desc nulls last) = 1
    ),

    disagreeing as (
        select {{ key }}, dbt_scd_id, {{ version_id }}, 'the version of this position says something else' as problem
        from placed
        where
            {{ version_id }} is null
            or not is_equal
            or (close_source_partition = seen_partition and close_source_offset < seen_offset)

        union all

        select {{ key }}, dbt_scd_id, {{ version_id }}, 'the last snapshot saw a row whose version has ended' as problem
        from placed
        where seen_last and not is_current

        union all

        select versions.{{ key }}, null as dbt_scd_id, versions.{{ version_id }}, 'the last snapshot did not see this open version once' as problem
        from {{ versions }} as versions
        left join placed
            on versions.{{ version_id }} = placed.{{ version_id }} and placed.seen_last
        where versions.is_current
        group by versions.{{ key }}, versions.{{ version_id }}
        having count(placed.dbt_scd_id) <> 1
    )

    select disagreeing.*
    from disagreeing
    left join unsettled
        on disagreeing.{{ key }} = unsettled.{{ key }}
    where unsettled.{{ key }} is null
{% endtest %}
