{#-
    The rows of a captured table that live now, each as its last change left it, from its change history. `bankstream reconcile` renders
    this file, captured_changes.sql, accepted_changes.sql, landed_records.sql and types.sql too (app/proof/reconcile/current_rows.py), over the changes
    that its snapshot of PostgreSQL sees: both have one answer to what lives.

    `key` is a column of `changes`, or several with commas between. `whole_snapshots` false: the connector's snapshots leave rows out, so they
    say of no row that it is gone (whole_snapshots in captured.toml).

    The rules are those of the streams (app/domain/scd2.py, agents/versions.py), whatever the order in which partitions are read:
    - Kafka's order inside a partition is the order of a row's changes. The last one counts.
    - A change with a lower lsn than an earlier change of the row is a replay: row locks make the lsn rise with each change. A snapshot read
      carries the lsn of the snapshot, so it makes no later change a replay; it is a replay itself if its lsn was reached already.
      A change without an lsn is never a replay.
    - A row whose message key changed lives on in another partition: deleted in the old one, created in the new one at the same lsn.
      The partition with the highest lsn of the row counts, and of equals the one where it lives. A last change without an lsn has
      the highest lsn that its partition has of the row.
    - A change that the streams refused is among the dead letters and did not happen.
    - A TRUNCATE takes every row that stands below its lsn: the table lock makes that exact. A change without an lsn stands below it if it was
      recorded before it: the streams close such a row when they carry the TRUNCATE out, and open one that comes afterwards.
      (Between the two, for as long as it takes to read the partition to its end, they close it too; and of transactions they pass on as deleted
      what they see for the first time without an lsn after a TRUNCATE. Here it lives, as it does in the source.)
    - A snapshot that was read to its end shows which rows are gone: those that it did not read and that did not change after it. A
      transaction that was under way at the snapshot wrote below its lsn, and was recorded behind its last row. A row without an lsn
      stands below every snapshot.
-#}
{% macro current_rows(changes, key, whole_snapshots=true) -%}
    with changes as (
        {{ not_refused(changes) | indent(8) }}
    ),

    truncates as (
        select
            source_lsn as truncated_lsn,
            min(recorded_at) as truncated_at
        from changes
        where operation = 't' and source_lsn is not null
        group by source_lsn
    ),

    last_truncate as (
        select
            max(truncated_lsn) as truncated_lsn,
            max(truncated_at) as truncated_at
        from truncates
    ),

    snapshot_ends as (
        select
            source_lsn as taken_lsn,
            min(recorded_at) as ended_at
        from changes
        where {{ 'ends_snapshot' if whole_snapshots else 'false' }} and operation = 'r' and source_lsn is not null
        group by source_lsn
    ),

    last_snapshot as (
        select
            max(taken_lsn) as taken_lsn,
            max(ended_at) as ended_at
        from snapshot_ends
    ),

    placed as (
        {{ placed_changes('changes', key) | indent(8) }}
    ),

    last_in_partition as (
        select
            placed.*,
            coalesce(source_lsn, seen_before) as row_lsn
        from placed
        where
            {{ is_news() }}
            -- a row that moved inside of its partition: created at the lsn of its delete
            or (operation = 'c' and source_lsn = changed_before)
        qualify row_number() over (partition by {{ key }}, source_partition order by source_offset desc) = 1
    ),

    last_of_all as (
        select *
        from last_in_partition
        qualify row_number() over (
            partition by {{ key }} order by row_lsn desc nulls last, iff(operation = 'd', 1, 0), source_offset desc
        ) = 1
    )

    select last_of_all.*
    from last_of_all
    cross join last_truncate
    cross join last_snapshot
    where
        operation <> 'd'
        and (
            truncated_lsn is null
            or row_lsn >= truncated_lsn
            or (source_lsn is null and recorded_at >= truncated_at)
        )
        and (taken_lsn is null or row_lsn >= taken_lsn or recorded_at >= ended_at)
{%- endmacro %}
