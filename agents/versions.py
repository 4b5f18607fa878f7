"""Rule: every change of a row updates its current state, and opens and closes its SCD2 versions; a replayed one does neither.

What all captured tables have in common. A table is declared (app/captured.toml); its handler is `handler`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from agents import metrics, snapshots, truncates
from agents.sources import source_of
from app.cdc.envelope import decode, primary_key
from app.cdc.unavailable import resolve
from app.domain import scd2
from app.domain.captured import CapturedTable
from app.domain.changes import Key, RowChange
from app.domain.records import ControlRecord, Scd2Record, encode, key_of
from app.domain.scd2 import RowState, Snapshot, Step, Truncation
from app.engine.group import Apply
from app.engine.unit import InputRecord, Unit
from tables.rows import RowKey, Rows, key_reader
from tables.truncations import TRUNCATIONS

Then = Callable[[RowKey, Unit], None]


@dataclass(frozen=True, slots=True)
class Versioned:
    """A captured table whose rows have versions: its declaration, its state table, and the topic of its records."""

    table: CapturedTable
    rows: Rows
    topic: str
    untracked: frozenset[str]

    @property
    def name(self) -> str:
        """The table's name in the source."""
        return self.table.name


def handler(versioned: Versioned, then: Then | None = None) -> Apply:
    """The logic for the table's CDC topic. `then` is told the key of each row whose state changed."""

    def apply_and_tell(record: InputRecord, unit: Unit) -> None:
        key = apply(versioned, record, unit)
        if key is not None and then is not None:
            then(key, unit)

    return apply_and_tell


def apply(versioned: Versioned, record: InputRecord, unit: Unit) -> RowKey | None:
    """Apply a record of the table's CDC topic. The key of the row whose state it changed; None if it changed none."""
    change = decode(record.value, record.headers, versioned.name)
    if change is None:
        return None
    source = source_of(record, change)
    if change.operation == "t":
        truncates.fan_out(change, source, unit)
        return None
    key = primary_key(change, record.key, versioned.table.key)
    row_key = tuple(key.values())
    rows = unit.table(versioned.rows)
    before = rows.get(row_key)
    read = snapshots.note(versioned.table, change, source, record, unit)
    state = before if read is None else _missed_by(read, versioned, change, key, before, unit)
    if change.operation == "u":
        assert change.after is not None
        change = replace(change, after=resolve(change.after, change.before, state.attributes if state else None))
    step = scd2.step(
        change, key, state, untracked=versioned.untracked, source=source, recorded_ms=record.timestamp
    )  # fmt: skip
    metrics.CHANGES.labels(versioned.name, step.effect).inc()
    if step.effect == "replayed":
        return None
    emit(versioned, key, step.records, unit)
    rows.put(row_key, _older_than_truncation(versioned, key, step.state, unit))
    return row_key


def truncate(versioned: Versioned, order: ControlRecord, unit: Unit) -> None:
    """Close the versions of this partition that a TRUNCATE took."""
    truncation = truncates.remember(order, unit)
    close_all(versioned, unit, lambda key, state: scd2.truncate(key, state, truncation))


def vanish(versioned: Versioned, snapshot: Snapshot, unit: Unit) -> None:
    """Close the versions of this partition whose rows a snapshot did not find."""
    close_all(versioned, unit, lambda key, state: scd2.vanish(key, state, snapshot))


def close_all(versioned: Versioned, unit: Unit, close: Callable[[Key, RowState], Step]) -> None:
    """Apply a step to every row of this partition."""
    rows, read_key = unit.table(versioned.rows), key_reader(versioned.table)
    for raw_key, state in list(rows.scan()):
        row_key = read_key(raw_key)
        key = dict(zip(versioned.table.key, row_key, strict=True))
        step = close(key, state)
        if step.effect == "applied":
            emit(versioned, key, step.records, unit)
            rows.put(row_key, step.state)


def emit(versioned: Versioned, key: Mapping[str, int | str], records: Iterable[Scd2Record], unit: Unit) -> None:
    """Send records of one row. Their key has the bytes of the row's key as Debezium writes it."""
    for record in records:
        unit.emit(versioned.topic, key=key_of(key), value=encode(record))
        metrics.VERSIONS.labels(versioned.name, record.__struct_config__.tag, record.reason).inc()


def _missed_by(
    read: Snapshot, versioned: Versioned, change: RowChange, key: Key, state: RowState | None, unit: Unit
) -> RowState | None:
    """The state before a change that was recorded behind a snapshot: a row that the snapshot did not have was gone by then.

    The order to close such rows may come later than the change does; what comes of it is the same.
    """
    if state is None or change.operation == "r" or scd2.is_replay(state, change):
        return state
    step = scd2.vanish(key, state, read)
    emit(versioned, key, step.records, unit)
    return step.state


def _older_than_truncation(versioned: Versioned, key: Key, state: RowState, unit: Unit) -> RowState:
    """A change that a TRUNCATE on another partition overtook: the row is gone already."""
    truncation: Truncation | None = unit.table(TRUNCATIONS).get(versioned.name)
    if truncation is None:
        return state
    step = scd2.truncate(key, state, truncation)
    emit(versioned, key, step.records, unit)
    return step.state
