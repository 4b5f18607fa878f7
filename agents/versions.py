"""Rule: every change of a row updates its current state, and opens and closes its SCD2 versions; a replayed one does neither.

What customers and accounts have in common. A table is declared by a `Versioned`; its handler is `apply`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agents import metrics, truncates
from agents.sources import source_of
from app.cdc.envelope import decode, primary_key
from app.cdc.unavailable import resolve
from app.domain import scd2
from app.domain.records import ControlRecord, Scd2Record, encode, key_bytes
from app.domain.scd2 import RowState, Truncation
from app.engine.table import Table
from app.engine.unit import InputRecord, Unit
from tables.encoding import numbers
from tables.truncations import TRUNCATIONS


@dataclass(frozen=True, slots=True)
class Versioned:
    """A captured table whose rows have versions: its name and key column in the source, its state table, and the topic of its records."""

    name: str
    key_column: str
    table: Table[int, RowState]
    topic: str


def apply(
    versioned: Versioned, untracked: frozenset[str], record: InputRecord, unit: Unit
) -> tuple[int, RowState] | None:
    """Apply a record of the table's CDC topic. The key and state of the row it changed; None if it changed none."""
    change = decode(record.value, record.headers, versioned.name)
    if change is None:
        return None
    source = source_of(record, change)
    if change.operation == "t":
        truncates.fan_out(change, source, unit)
        return None
    key = primary_key(change, record.key, versioned.key_column)
    states = unit.table(versioned.table)
    state = states.get(key)
    if change.operation == "u":
        assert change.after is not None
        change = replace(change, after=resolve(change.after, change.before, state.attributes if state else None))
    step = scd2.step(change, {versioned.key_column: key}, state, untracked=untracked, source=source)
    metrics.CHANGES.labels(versioned.name, step.effect).inc()
    if step.effect == "replayed":
        return None
    _emit(versioned, key, step.records, unit)
    state = _older_than_truncation(versioned, key, step.state, unit)
    states.put(key, state)
    return key, state


def truncate(versioned: Versioned, order: ControlRecord, unit: Unit) -> None:
    """Close the versions of this partition that a TRUNCATE took."""
    truncation = truncates.remember(order, unit)
    states = unit.table(versioned.table)
    for raw_key, state in list(states.scan()):
        (key,) = numbers(raw_key)
        step = scd2.truncate({versioned.key_column: key}, state, truncation)
        if step.effect == "applied":
            _emit(versioned, key, step.records, unit)
            states.put(key, step.state)


def _older_than_truncation(versioned: Versioned, key: int, state: RowState, unit: Unit) -> RowState:
    """A change that a TRUNCATE on another partition overtook: the row is gone already."""
    truncation: Truncation | None = unit.table(TRUNCATIONS).get(versioned.name)
    if truncation is None:
        return state
    step = scd2.truncate({versioned.key_column: key}, state, truncation)
    _emit(versioned, key, step.records, unit)
    return step.state


def _emit(versioned: Versioned, key: int, records: Iterable[Scd2Record], unit: Unit) -> None:
    for record in records:
        unit.emit(versioned.topic, key=key_bytes(versioned.key_column, key), value=encode(record))
        metrics.VERSIONS.labels(versioned.name, record.__struct_config__.tag, record.reason).inc()
