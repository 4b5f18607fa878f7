"""Rule: rows that a snapshot of a whole table did not find are closed, on every partition, once each has read all of that snapshot.

Debezium marks a snapshot's last row of a table. It is on one partition, and the others may lag behind: so it becomes an order to all of
them, which each keeps until it has processed everything that its partition of the topic had when it heard of the order. All rows of
the snapshot were there by then: the marked one was read, so its transaction and all earlier ones of the connector had been decided.
"""

from collections.abc import Callable, Mapping
from typing import Final

from app.domain.captured import CapturedTable
from app.domain.changes import RowChange
from app.domain.records import ControlRecord, Source, encode
from app.domain.scd2 import Snapshot
from app.domain.times import parse_us
from app.engine.settling import Awaited, Settling
from app.engine.unit import InputRecord, Unit
from app.topics import CONTROL
from tables.snapshots import SNAPSHOTS

Vanish = Callable[[Snapshot, Unit], None]

_NONE: Final = "none"


def note(
    table: CapturedTable, change: RowChange, source: Source, record: InputRecord, unit: Unit
) -> Snapshot | None:  # fmt: skip
    """Remember a snapshot by the first row of it that comes here; with its last row, give the order to all partitions.

    Answers the latest snapshot of which this partition of the topic has a row, before this one. None: of none.
    """
    if not table.whole_snapshots:
        return None
    read = _read(table.name, record.partition, unit)
    if change.snapshot == "none" or change.lsn is None:
        return read
    here = Snapshot(change.lsn, change.commit_us, record.timestamp, source)
    if read is None or read.lsn < here.lsn:
        unit.table(SNAPSHOTS).put(("read", table.name, record.partition), here)
        unit.memory["snapshot", table.name, record.partition] = here
    if change.snapshot == "last_row" and _known(table.name, unit) < change.lsn:
        order = encode(ControlRecord("snapshot", table.name, source, record.timestamp))
        for partition in range(unit.partitions):
            unit.emit(CONTROL.name, key=None, value=order, partition=partition)
    return read


def keep(order: ControlRecord, unit: Unit) -> None:
    """Keep an order until this partition has come that far. One that is known already is no news."""
    lsn = order.source.lsn
    if lsn is not None and _known(order.table, unit) < lsn:
        due = Snapshot(lsn, parse_us(order.source.commit_time), order.recorded_ms, order.source)
        unit.table(SNAPSHOTS).put(("due", order.table, unit.partition), due)


def settling(tables: Mapping[str, tuple[str, Vanish]]) -> Settling:
    """What the engine has to wait for; `tables` has, by name, the CDC topic and what to do when it has been read."""

    def awaited(unit: Unit) -> Mapping[Awaited, Callable[[Unit], None]]:
        found: dict[Awaited, Callable[[Unit], None]] = {}
        for name, (topic, vanish) in tables.items():
            due = unit.table(SNAPSHOTS).get(("due", name, unit.partition))
            if due is not None:
                found[topic, due.lsn] = _closing(name, due, vanish)
        return found

    return awaited


def _closing(name: str, due: Snapshot, vanish: Vanish) -> Callable[[Unit], None]:
    def close(unit: Unit) -> None:
        vanish(due, unit)
        unit.table(SNAPSHOTS).put(("ended", name, unit.partition), due)
        unit.table(SNAPSHOTS).delete(("due", name, unit.partition))

    return close


def _known(name: str, unit: Unit) -> int:
    """The position of the latest snapshot that this partition has been told to have ended."""
    known = (unit.table(SNAPSHOTS).get((kind, name, unit.partition)) for kind in ("due", "ended"))  # type: ignore[arg-type]
    return max((snapshot.lsn for snapshot in known if snapshot is not None), default=-1)


def _read(name: str, partition: int, unit: Unit) -> Snapshot | None:
    """It is asked for with every change, so it is kept in memory too."""
    cached = unit.memory.get(("snapshot", name, partition))
    if cached is None:
        cached = unit.table(SNAPSHOTS).get(("read", name, partition)) or _NONE
        unit.memory["snapshot", name, partition] = cached
    return cached if isinstance(cached, Snapshot) else None
