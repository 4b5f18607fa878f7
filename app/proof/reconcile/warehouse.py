"""The warehouse's side: the rows that the landed raw changes add up to, counting only those that the source's snapshot sees.

The rules are those of dbt/macros/current_rows.sql, with one step before them: a change of a transaction that the snapshot does not see
has not happened yet. Everything is worked out in the warehouse, once, into a temporary table, and read from there page by page.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

import msgspec

from app.config.settings import S3Settings, SnowflakeSettings
from app.config.topics import PREFIX
from app.postgres import XID_MODULUS
from app.proof.reconcile.canonical import Value
from app.proof.reconcile.source import TABLES, Column, PostgresSnapshot
from app.proof.reconcile.unqueryable_changes import MARK, UnqueryableChanges, decode_unqueryable
from sinks.base import SinkError
from sinks.sessions import open_reader

PAGE_ROWS: Final = 10_000
LONG_BEFORE_US: Final = 3_600_000_000
"""What was committed so long before the snapshot is seen by it, whatever its id: 32 bits wrap, clocks may be set."""

CURRENT_ROWS: Final = """
    with landed as (
        select
            record:partition::number(38, 0) as log_partition,
            record:offset::number(38, 0) as log_offset,
            record:ts::number(38, 0) as recorded_ms,
            coalesce(record:value:payload, record:value) as envelope
        from {database}.BRONZE.CDC_EVENTS
        where record:topic::varchar = '{topic}'
        {aside}
    ),

    opened as (
        select
            log_partition,
            log_offset,
            recorded_ms,
            envelope:op::varchar as operation,
            coalesce(envelope:source:snapshot::varchar in ('last_in_data_collection', 'last'), false) as ends_snapshot,
            envelope:source:lsn::number(38, 0) as lsn,
            -- how far the transaction is before (negative) or after the first one that had not begun yet
            mod(envelope:source:txId::number(38, 0) - {xmax} + {modulus} + {half}, {modulus}) - {half} as tx_distance,
            coalesce(envelope:source:ts_us::number(38, 0), envelope:source:ts_ms::number(38, 0) * 1000) as committed_us,
            iff(envelope:op::varchar = 'd', envelope:before, envelope:after) as row_image
        from landed
        where envelope:op::varchar in ('r', 'c', 'u', 'd', 't')
    ),

    changes as (
        select opened.*, row_image:{key}::number(38, 0) as row_key
        from opened
        where
            tx_distance is null
            -- rows that the connector read in a snapshot of its own: that began before ours if its transaction did
            or (tx_distance < 0 and (operation = 'r' or tx_distance not in ({in_progress})))
            or committed_us < {long_before_us}
    ),

    truncated as (
        select max(lsn) as truncated_lsn from changes where operation = 't'
    ),

    snapshot_ends as (
        select lsn as taken_lsn, min(recorded_ms) as ended_ms from changes where ends_snapshot group by lsn
    ),

    last_snapshot as (
        select max(taken_lsn) as taken_lsn, max(ended_ms) as ended_ms from snapshot_ends
    ),

    seen as (
        select
            changes.*,
            max(iff(operation = 'r', null, lsn)) over (
                partition by row_key, log_partition order by log_offset
                rows between unbounded preceding and 1 preceding
            ) as highest_lsn_before
        from changes
        where operation <> 't' and row_key is not null
    ),

    last_in_partition as (
        select *
        from seen
        where highest_lsn_before is null or lsn is null or lsn >= highest_lsn_before
        qualify row_number() over (partition by row_key, log_partition order by log_offset desc) = 1
    ),

    last_of_all as (
        select *
        from last_in_partition
        qualify row_number() over (
            partition by row_key order by lsn desc nulls last, iff(operation = 'd', 1, 0), log_offset desc
        ) = 1
    )

    select row_key, to_json(row_image) as row_image
    from last_of_all
    cross join truncated
    cross join last_snapshot
    where
        operation <> 'd'
        and (truncated_lsn is null or lsn is null or lsn >= truncated_lsn)
        -- a connector's snapshot that was read to its end did not find it, and it has not changed since
        and (taken_lsn is null or lsn is null or recorded_ms is null or lsn >= taken_lsn or recorded_ms >= ended_ms)
    order by row_key
"""

UNQUERYABLE: Final = """
    select
        record:partition::number(38, 0),
        record:offset::number(38, 0),
        record:ts::number(38, 0),
        record:value_base64::varchar,
        record:large_object::varchar
    from {database}.BRONZE.CDC_EVENTS
    where
        record:topic::varchar = '{topic}'
        and coalesce(record:value_base64::varchar, record:large_object::varchar) is not null
    order by 1, 2
"""
"""Records without a value that could be looked into: see app/proof/reconcile/unqueryable_changes.py."""

BOUND: Final = "union all select column1, column2, column3, parse_json(column4) from values {rows}"

Ledger = Mapping[tuple[str, str, int], int]
"""Last loaded offset by (topic, topic_id, partition)."""


class WarehouseReader:
    """One session, for one thread. SinkError when the warehouse cannot be asked."""

    def __init__(self, settings: SnowflakeSettings, lake: S3Settings | None = None) -> None:
        """`lake` is asked for records that are too large for a landing row; without it such a record is an error."""
        self._database, self._lake = settings.database, lake
        self._reader = open_reader(settings)

    def close(self) -> None:
        """End the session."""
        self._reader.close()

    def ledger(self) -> Ledger:
        """How far the loader is."""
        return {chain: row.last_offset for chain, row in self._reader.ledger().items()}

    def rows(
        self, table: str, columns: tuple[Column, ...], snapshot: PostgresSnapshot
    ) -> Iterator[tuple[int, tuple[Value, ...]]]:
        """Every row with its key, in the order of the keys, a page in memory at a time."""
        name = f"{self._database}.BRONZE.RECONCILE_{table.upper()}_{uuid4().hex[:12].upper()}"
        aside = self._aside(table)
        values = [value for envelope in aside.envelopes for value in envelope]
        query = current_rows(self._database, table, snapshot, aside=len(aside.envelopes))
        self._reader.rows(f"CREATE TEMPORARY TABLE {name} AS {query}", values)
        try:
            for page in self._reader.pages(name, ("row_key", "row_image"), size=PAGE_ROWS):
                for key, image in page:
                    yield int(key), _row(image, columns, aside)
        finally:
            with contextlib.suppress(SinkError):  # the session's end drops it too
                self._reader.rows(f"DROP TABLE IF EXISTS {name}")

    def _aside(self, table: str) -> UnqueryableChanges:
        found = self._reader.rows(UNQUERYABLE.format(database=self._database, topic=f"{PREFIX}.public.{table}"))
        rows = [
            (int(partition), int(offset), None if recorded_ms is None else int(recorded_ms), wrapped, name)
            for partition, offset, recorded_ms, wrapped, name in found
        ]
        return decode_unqueryable(table, TABLES[table], rows, self._lake)


def current_rows(database: str, table: str, snapshot: PostgresSnapshot, aside: int = 0) -> str:
    """The query for a table's rows as the snapshot's transactions left them: key and JSON, in the order of the keys.

    `aside`: how many changes are bound beside those that landed whole, each as partition, offset, timestamp and envelope.
    """
    distances = ", ".join(str(transaction - snapshot.xmax) for transaction in snapshot.in_progress)
    return CURRENT_ROWS.format(
        database=database,
        topic=f"{PREFIX}.public.{table}",
        key=TABLES[table],
        aside=BOUND.format(rows=", ".join(["(%s, %s, %s, %s)"] * aside)) if aside else "",
        xmax=snapshot.xmax % XID_MODULUS,
        modulus=XID_MODULUS,
        half=XID_MODULUS // 2,
        in_progress=distances or "0",
        long_before_us=snapshot.taken_us - LONG_BEFORE_US,
    )


def _row(image: str, columns: tuple[Column, ...], aside: UnqueryableChanges) -> tuple[Value, ...]:
    values = msgspec.json.decode(image, type=dict[str, Any])
    if MARK in values:
        values = aside.image(values[MARK])
    return tuple(None if (value := values.get(column.name)) is None else column.convert(value) for column in columns)
