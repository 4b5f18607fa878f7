{#-
    The rows of a captured table that live now, each as its last change left it, from its change history.

    Kafka's order inside a partition is the order of a key, so the last change there is the truth, with two exceptions that
    the log position (lsn) settles:
    - a change with a lower lsn than one already seen of the same row is a replay (row locks make lsn rise with each change of
      a row). Snapshot reads carry the lsn of the snapshot instead of the row's, so they never make a later change a replay;
    - a row whose message key changed lives on in another partition: deleted in the old one, created in the new one at the
      same lsn. Of the partitions' last changes the one with the highest lsn counts, and of equals the one that lives.
    A change that the streams refused is among the dead letters and did not happen, here as there.
    A truncate takes every row whose change stands below it: the table lock makes that exact.
    A snapshot that was read to its end shows which rows are gone: those that it did not read and that did not change after it. A
    transaction that was under way at the snapshot wrote below its lsn, and was recorded behind its last row.
-#}
{% macro current_rows(changes, key) -%}
    with changes as (
        {{ not_refused(changes) | indent(8) }}
    ),

    truncated as (
        select max(source_lsn) as truncated_lsn
        from changes
        where operation = 't'
    ),

    snapshot_ends as (
        select
            source_lsn as taken_lsn,
            min(recorded_at) as ended_at
        from changes
        where ends_snapshot
        group by source_lsn
    ),

    last_snapshot as (
        select
            max(taken_lsn) as taken_lsn,
            max(ended_at) as ended_at
        from snapshot_ends
    ),

    seen as (
        select
            changes.*,
            max(iff(operation = 'r', null, source_lsn)) over (
                partition by {{ key }}, source_partition
                order by source_offset
                rows between unbounded preceding and 1 preceding
            ) as highest_lsn_before
        from changes
        where operation <> 't'
    ),

    last_in_partition as (
        select *
        from seen
        where highest_lsn_before is null or source_lsn is null or source_lsn >= highest_lsn_before
        qualify row_number() over (partition by {{ key }}, source_partition order by source_offset desc) = 1
    ),

    last_of_all as (
        select *
        from last_in_partition
        qualify row_number() over (
            partition by {{ key }} order by source_lsn desc nulls last, iff(operation = 'd', 1, 0), source_offset desc
        ) = 1
    )

    select last_of_all.*
    from last_of_all
    cross join truncated
    cross join last_snapshot
    where
        operation <> 'd'
        and (taken_lsn is null or source_lsn >= taken_lsn or recorded_at >= ended_at)
        and (truncated_lsn is null or source_lsn >= truncated_lsn)
{%- endmacro %}
