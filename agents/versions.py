"""Applies each change of a row to its current state and opens and closes its SCD2 versions; a replayed change does neither.

All captured tables share this logic. A table is declared in app/captured.toml, and `handler` returns its handler.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from agents import metrics, snapshots, table_commands, truncations
from agents.sources import source_of
from app.cdc.envelope import decode, primary_key
from app.cdc.unavailable import resolve
from app.domain import scd2
from app.domain.captured import CapturedTable
from app.domain.changes import Key, RowChange
from app.domain.records import Scd2Record, TableCommand, encode, key_of
from app.domain.scd2 import RowState, Scd2Result, Snapshot, Truncation
from app.domain.times import parse_us
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from tables.rows import RowKey, RowTable, key_reader

OnRowChanged = Callable[[RowKey, UnitOfWork], None]


@dataclass(frozen=True, slots=True)
class VersionedTable:
    """A captured table whose rows have versions: its declaration, its state table, and the topic of its records."""

    table: CapturedTable
    rows: RowTable
    topic: str
    untracked: frozenset[str]

    @property
    def name(self) -> str:
        """The table's name in the source."""
        return self.table.name


def handler(versioned: VersionedTable, then: OnRowChanged | None = None) -> RecordHandler:
    """Returns the handler of the table's CDC topic. `then` is called with the key of each row whose state changed."""

    def apply_and_tell(record: InputRecord, unit: UnitOfWork) -> None:
        key = apply(versioned, record, unit)
        if key is not None and then is not None:
            then(key, unit)

    return apply_and_tell


def apply(versioned: VersionedTable, record: InputRecord, unit: UnitOfWork) -> RowKey | None:
    """Apply a record of the table's CDC topic. Returns the key of the row whose state it changed; None if it changed none."""
    change = decode(record.value, record.headers, versioned.name, versioned.table.encodings)
    if change is None:
        return None
    source = source_of(record, change)
    if change.operation == "t":
        truncations.broadcast(change, source, unit)
        return None
    key = primary_key(change, record.key, versioned.table.key)
    row_key = tuple(key.values())
    rows = unit.table(versioned.rows)
    state = _before(versioned, change, record, key, rows.get(row_key), unit)
    snapshots.observe(versioned.table, change, source, record, unit)
    if change.operation == "u":
        assert change.after is not None
        change = replace(change, after=resolve(change.after, change.before, state.attributes if state else None))
    step = scd2.apply_change(
        change, key, state, untracked=versioned.untracked, source=source, recorded_ms=record.timestamp
    )  # fmt: skip
    metrics.CHANGES.counts[versioned.name, step.effect] += 1
    if step.effect == "replayed":
        return None
    emit(versioned, key, step.records, unit)
    rows.put(row_key, step.state)
    return row_key


def apply_command(versioned: VersionedTable, command: TableCommand, unit: UnitOfWork) -> None:
    """Close the versions of this partition's rows that a TRUNCATE removed or a snapshot does not contain."""
    rows, read_key = unit.table(versioned.rows), key_reader(versioned.table)
    read = snapshots.latest(versioned.name, unit.partition, unit)
    earlier = read if read is not None and read.lsn < table_commands.command_lsn(command) else None
    for raw_key, state in list(rows.scan()):
        row_key = read_key(raw_key)
        key = dict(zip(versioned.table.key, row_key, strict=True))
        missed = state if earlier is None else _missed(versioned, key, state, earlier, unit)
        step = _step(command, key, missed)
        emit(versioned, key, step.records, unit)
        if step.state is not state:
            rows.put(row_key, step.state)


def emit(
    versioned: VersionedTable, key: Mapping[str, int | str], records: Iterable[Scd2Record], unit: UnitOfWork
) -> None:
    """Send the SCD2 records of one row. Their key has the bytes of the row's key as Debezium writes it."""
    for record in records:
        unit.emit(versioned.topic, key=key_of(key), value=encode(record))
        metrics.VERSIONS.labels(versioned.name, record.__struct_config__.tag, record.reason).inc()


def _step(command: TableCommand, key: Key, state: RowState) -> Scd2Result:
    lsn, at_us = table_commands.command_lsn(command), parse_us(command.source.commit_time)
    if command.kind == "truncate":
        return scd2.apply_truncate(key, state, Truncation(lsn, at_us, command.source))
    return scd2.apply_snapshot(key, state, Snapshot(lsn, at_us, command.recorded_ms, command.source))


def _before(
    versioned: VersionedTable,
    change: RowChange,
    record: InputRecord,
    key: Key,
    state: RowState | None,
    unit: UnitOfWork,
) -> RowState | None:
    """Returns the row's state before a change. Pending commands that precede the change are first applied to this row. So is a snapshot
    whose rows have arrived but not its command: a row that the snapshot does not contain was gone before the change."""
    if state is None or not state.alive or scd2.is_replay(state, change):
        return state
    read = snapshots.latest(versioned.name, record.partition, unit) if change.operation != "r" else None
    for command in table_commands.pending_commands(versioned.name, unit):
        if read is not None and read.lsn < table_commands.command_lsn(command):
            state, read = _missed(versioned, key, state, read, unit), None
        if _is_behind(change, record, command):
            step = _step(command, key, state)
            emit(versioned, key, step.records, unit)
            state = step.state
    return state if read is None else _missed(versioned, key, state, read, unit)


def _missed(versioned: VersionedTable, key: Key, state: RowState, read: Snapshot, unit: UnitOfWork) -> RowState:
    """Applies a snapshot of which only rows have arrived, and returns the row's new state. The snapshot's command may come late from
    another partition, after the command of a later TRUNCATE; in the order of the log the row was gone before the TRUNCATE."""
    step = scd2.apply_snapshot(key, state, read)
    emit(versioned, key, step.records, unit)
    return step.state


def _is_behind(change: RowChange, record: InputRecord, command: TableCommand) -> bool:
    """Returns whether a change is later than a command's TRUNCATE or snapshot. Log positions are compared for a TRUNCATE, whose lock
    excludes concurrent changes, and for two snapshots; otherwise Kafka's timestamps are compared."""
    if command.kind == "truncate" or change.operation == "r":
        return change.lsn is not None and change.lsn > table_commands.command_lsn(command)
    return record.timestamp >= command.recorded_ms
