"""Sends, at a snapshot's last row of a table, a command to close the versions of the rows that the snapshot does not contain.

Debezium marks the last row.
"""

from typing import Final

from agents import table_commands
from app.domain.captured import CapturedTable
from app.domain.changes import RowChange
from app.domain.records import Source, TableCommand
from app.domain.scd2 import Snapshot
from app.engine.unit_of_work import InputRecord, UnitOfWork
from tables.snapshots import SNAPSHOTS

_NONE: Final = "none"


def observe(table: CapturedTable, change: RowChange, source: Source, record: InputRecord, unit: UnitOfWork) -> None:
    """Store a snapshot at its first row on this partition. Send the command at its last row."""
    if change.snapshot == "none" or change.lsn is None or not table.whole_snapshots:
        return
    before = latest(table.name, record.partition, unit)
    if before is None or before.lsn < change.lsn:
        here = Snapshot(change.lsn, change.commit_us, record.timestamp, source)
        unit.table(SNAPSHOTS).put((table.name, record.partition), here)
        unit.cache["snapshot", table.name, record.partition] = here
    if change.snapshot == "last_row" and table_commands.last_seen_lsn("snapshot", table.name, unit) < change.lsn:
        table_commands.broadcast(TableCommand("snapshot", table.name, source, record.timestamp), unit)


def latest(table: str, partition: int, unit: UnitOfWork) -> Snapshot | None:
    """Returns the latest snapshot of which this partition has processed a row. It is read with every change, so it is kept in memory."""
    cached = unit.cache.get(("snapshot", table, partition))
    if cached is None:
        cached = unit.table(SNAPSHOTS).get((table, partition)) or _NONE
        unit.cache["snapshot", table, partition] = cached
    return cached if isinstance(cached, Snapshot) else None
