{#-
    The current rows of a captured table, each in the state after its last change, from its change history. `bankstream reconcile` also renders
    this file, captured_changes.sql, accepted_changes.sql, landed_records.sql and types.sql (app/proof/reconcile/current_rows.py), over the changes
    visible in its snapshot of PostgreSQL, so that both use the same rules.

    `key` is a column of `changes`, or several separated by commas. `whole_snapshots` false: the connector's snapshots leave rows out, so
    a missing row is not a deleted row (whole_snapshots in captured.toml).

    The rules are those of the streams worker (app/domain/scd2.py, agents/versions.py), whatever the order in which partitions are read:
    - Kafka's order inside a partition is the order of a row's changes. The last one counts.
    - A change with a lower lsn than an earlier change of the row is a replay: row locks make the lsn rise with each change. A snapshot read
      has the lsn of the snapshot, so a later change is not a replay because of it; the read itself is a replay if its lsn was reached already.
      A change without an lsn is never a replay.
    - A row whose message key changed moves to another partition: deleted in the old one, created in the new one at the same lsn.
      The partition with the highest lsn of the row counts; if they are equal, the one in which the row exists. A last change without an lsn has
      the highest lsn of the row in its partition.
    - A change that the streams worker refused is a dead letter and has no effect.
    - A TRUNCATE deletes every row with a lower lsn: the table lock makes that exact. A change without an lsn is before the TRUNCATE if it was
      recorded before it: the worker closes such a row when it applies the TRUNCATE, and opens one that arrives afterwards.
      (Between the two, until the partition is read to its end, the worker closes it too. It also forwards a transaction as deleted if it first
      reads it without an lsn after a TRUNCATE. Here the row is current, as in the source.)
    - A complete snapshot shows which rows are deleted: those that it did not read and that did not change after it. A
      source transaction that was open at the snapshot wrote below its lsn, and was recorded after its last row. A row without an lsn
      is before every snapshot.
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
            -- a row that moved inside its partition: created at the lsn of its delete
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
