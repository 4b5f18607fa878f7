"""Reads the warehouse's side: the current rows that follow from the landed raw changes that the source's snapshot sees.

dbt/macros/current_rows.sql defines the current rows (current_rows.py renders it). The warehouse computes them once into a temporary
table, which is read page by page.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

import msgspec

from app.cdc.schema import as_declared
from app.config.settings import S3Settings, SnowflakeSettings
from app.config.topics import cdc_topic
from app.domain.captured import CapturedTable
from app.proof.reconcile.canonical import Value
from app.proof.reconcile.current_rows import current_rows
from app.proof.reconcile.keys import Order, order_of
from app.proof.reconcile.source import PostgresSnapshot, Table
from app.proof.reconcile.unqueryable_changes import MARK, UnqueryableChanges, decode_unqueryable
from sinks.base import SinkError
from sinks.relations import relation
from sinks.sessions import open_reader

PAGE_ROWS: Final = 10_000
UNQUERYABLE: Final = """
    select
        record:partition::number(38, 0),
        record:offset::number(38, 0),
        record:ts::number(38, 0),
        record:value_base64::varchar,
        record:large_object::varchar
    from {cdc_events}
    where
        record:topic::varchar = '{topic}'
        and coalesce(record:value_base64::varchar, record:large_object::varchar) is not null
    order by 1, 2
"""
"""Records without a queryable value: see app/proof/reconcile/unqueryable_changes.py."""

Ledger = Mapping[tuple[str, str, int], int]
"""The last loaded offset by (topic, topic_id, partition)."""


class CurrentRowsReader:
    """Reads current rows and the ledger in one session, for one thread. Its methods raise SinkError if the warehouse does not answer."""

    def __init__(self, settings: SnowflakeSettings, lake: S3Settings | None = None) -> None:
        """Opens the session. `lake` has the records that are too large for a landing row; without it such a record is an error."""
        self._database, self._lake = settings.database, lake
        self._reader = open_reader(settings)

    def close(self) -> None:
        """Closes the session."""
        self._reader.close()

    def ledger(self) -> Ledger:
        """Returns the last loaded offset of every chain."""
        return {chain: row.last_offset for chain, row in self._reader.ledger().items()}

    def rows(
        self, table: Table, snapshot: PostgresSnapshot, last_offsets: Mapping[int, int] | None = None
    ) -> Iterator[tuple[Order, tuple[Value, ...]]]:
        """Yields every row with its key, in key order. One page is in memory at a time.

        `last_offsets`: the last offset of each partition of the table's topic to include; None: all landed records.
        """
        name = relation(self._database, f"RECONCILE_{table.name.upper()}_{uuid4().hex[:12].upper()}")
        unqueryable = self._unqueryable(table.declared)
        query = current_rows(self._database, table, snapshot, last_offsets, bound=len(unqueryable.records))
        self._reader.rows(f"CREATE TEMPORARY TABLE {name} AS {query}", unqueryable.records)
        try:
            for page in self._reader.pages(name, ("place", "row_image"), size=PAGE_ROWS):
                for _, image in page:
                    row = row_of(image, table, unqueryable)
                    yield order_of(table.key, row), row
        finally:
            with contextlib.suppress(SinkError):  # the end of the session drops the table too
                self._reader.rows(f"DROP TABLE IF EXISTS {name}")

    def _unqueryable(self, table: CapturedTable) -> UnqueryableChanges:
        cdc_events = relation(self._database, "CDC_EVENTS")
        found = self._reader.rows(UNQUERYABLE.format(cdc_events=cdc_events, topic=cdc_topic(table).name))
        rows = [
            (int(partition), int(offset), None if recorded_ms is None else int(recorded_ms), wrapped, name)
            for partition, offset, recorded_ms, wrapped, name in found
        ]
        return decode_unqueryable(table, rows, self._lake)


def row_of(image: str, table: Table, unqueryable: UnqueryableChanges) -> tuple[Value, ...]:
    """Converts a row of the query's result: its columns in the source's order, each as canonical text."""
    values = msgspec.json.decode(image, type=dict[str, Any])
    if MARK in values:
        values = unqueryable.image(values[MARK])
    elif table.declared.encodings:
        converted = as_declared(msgspec.json.decode(image, type=dict[str, msgspec.Raw]), table.declared.encodings)
        values = msgspec.json.decode(msgspec.json.encode(converted), type=dict[str, Any])
    return tuple(
        None if (value := values.get(column.name)) is None else column.convert(value) for column in table.columns
    )
