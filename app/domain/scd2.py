"""Applies the changes of a row to its SCD2 versions (slowly changing dimension, type 2). Each change is one pure step.

A version is valid in [valid_from, valid_to), in commit time. A row that exists has exactly one open version; a deleted row has none.
If the commit time of a change is earlier than the last one of the same key (a clock was set back), the last one is used, so that
versions never overlap.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from app.domain.changes import Key, Operation, Row, RowChange, changed_columns
from app.domain.records import CloseReason, OpenReason, Scd2Close, Scd2Open, Scd2Record, Source
from app.domain.times import format_us

ID_BYTES: Final = 16


class RowState(msgspec.Struct, frozen=True, array_like=True):
    """The state of a row. It stays after the row's deletion, so that a replay of old changes cannot recreate the row."""

    alive: bool
    attributes: Row
    """The columns after the last change; for a deleted row, the columns before its deletion."""
    lsn: int | None
    """The lsn of the last change that was applied. Snapshot reads do not count: see `is_replay`."""
    snapshot_lsn: int | None
    """The lsn of the last snapshot that contained the row."""
    version_id: str
    """The open version; for a deleted row, the last one. Empty if the first known change of the row was its deletion."""
    since_us: int
    """When the open version became valid; for a deleted row, when its last version ended."""
    recorded_ms: int = 0
    """Kafka's timestamp of the last change that was applied, snapshot reads not counted."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """A TRUNCATE of a table: it deleted the rows whose lsn is below its own."""

    lsn: int
    commit_us: int
    source: Source


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a whole table: rows that it does not contain and that were not written after it are deleted."""

    lsn: int
    """The log position at which it was taken."""
    taken_us: int
    """When it was taken, by the source's clock."""
    recorded_ms: int
    """Kafka's timestamp of one of its records. A change with a later Kafka timestamp was committed after the snapshot."""
    source: Source
    """The source of that record."""


Effect = Literal["applied", "unchanged", "replayed"]


@dataclass(frozen=True, slots=True)
class Scd2Result:
    """The result of a change: the new state, and the records to emit, in order."""

    state: RowState
    records: tuple[Scd2Record, ...] = ()
    effect: Effect = "applied"


def version_id(table: str, key: Key, change: RowChange, source: Source) -> str:
    """Returns a version id that depends only on table, primary key and source position, so that a replay gives the same id.

    The position is the lsn, with a prefix for snapshot reads or changes, because both can have the same lsn. Without an lsn it is the
    Kafka position.
    """
    position = (
        f"{source.topic}/{source.partition}/{source.offset}"
        if change.lsn is None
        else f"{'snapshot' if change.operation == 'r' else 'lsn'}:{change.lsn}"
    )
    text = b"\0".join((table.encode(), msgspec.json.encode(key, order="sorted"), position.encode()))
    return hashlib.blake2b(text, digest_size=ID_BYTES).hexdigest()


class AppliedPositions(Protocol):
    """The positions of the last change and of the last snapshot read that were applied to a row."""

    @property
    def lsn(self) -> int | None:
        """The lsn of the last change."""
        ...

    @property
    def snapshot_lsn(self) -> int | None:
        """The lsn of the last snapshot read."""
        ...


class PositionedChange(Protocol):
    """The fields of a change that determine its order: its operation and its position in the log."""

    @property
    def operation(self) -> Operation:
        """See `RowChange`."""
        ...

    @property
    def lsn(self) -> int | None:
        """See `RowChange`."""
        ...


def is_replay(state: AppliedPositions, change: PositionedChange) -> bool:
    """Returns whether this change, or a later one of the same row, was already applied to the state.

    A snapshot read carries the lsn at which the snapshot was taken. The snapshot does not contain transactions that were uncommitted
    then, although their changes have lower positions; these changes arrive later and must be applied. So a change is compared with
    changes only. A snapshot read is a replay if the same or a later snapshot, or a change at or after its position, was applied.
    """
    if change.lsn is None:
        return False
    if change.operation == "r":
        return change.lsn <= max(_known(state.lsn), _known(state.snapshot_lsn))
    return change.lsn <= _known(state.lsn)


def next_positions(state: AppliedPositions | None, change: PositionedChange) -> tuple[int | None, int | None]:
    """Returns `lsn` and `snapshot_lsn` after a change."""
    lsn, snapshot_lsn = (None, None) if state is None else (state.lsn, state.snapshot_lsn)
    if change.lsn is None:
        return lsn, snapshot_lsn
    return (lsn, change.lsn) if change.operation == "r" else (change.lsn, snapshot_lsn)


def is_older(state: AppliedPositions, lsn: int) -> bool:
    """Returns whether the state of a row is older than this position. A state without a position is older."""
    return max(_known(state.lsn), _known(state.snapshot_lsn)) < lsn


def is_missing(state: RowState, snapshot: Snapshot) -> bool:
    """Returns whether a complete snapshot shows that this row is deleted: the row exists in the state, the snapshot does not contain
    it, and it has not changed since.

    The log position alone is not enough: a transaction that was uncommitted at the snapshot wrote below the snapshot's position, and
    Kafka recorded it after the snapshot.
    """
    return state.alive and is_older(state, snapshot.lsn) and state.recorded_ms < snapshot.recorded_ms


def _known(lsn: int | None) -> int:
    return -1 if lsn is None else lsn


def apply_change(
    change: RowChange,
    key: Key,
    state: RowState | None,
    *,
    untracked: frozenset[str],
    source: Source,
    recorded_ms: int = 0,
) -> Scd2Result:
    """Apply a change of the row with this key. `change` is not a truncate. A change of `untracked` columns alone opens no version.

    An update needs `after`. A delete may have no `before`: then the attributes stay as they were.
    `recorded_ms` is Kafka's timestamp of the change.
    """
    if state is not None and is_replay(state, change):
        return Scd2Result(state, effect="replayed")
    if state is not None and change.operation == "r":
        recorded_ms = state.recorded_ms
    if change.operation == "d":
        return _delete(change, key, state, source, recorded_ms)
    assert change.after is not None
    after = change.after
    lsn, snapshot_lsn = next_positions(state, change)
    changed: list[str] = []
    vanished = state is not None and state.alive and _was_gone(change, state)
    if state is not None and state.alive and not vanished:
        changed = changed_columns(state.attributes, after)
        if not (set(changed) - untracked):
            kept = RowState(
                alive=True, attributes=after, lsn=lsn, snapshot_lsn=snapshot_lsn,
                version_id=state.version_id, since_us=state.since_us, recorded_ms=recorded_ms,
            )  # fmt: skip
            return Scd2Result(kept, effect="applied" if changed else "unchanged")
    valid_from_us = change.commit_us if state is None else max(change.commit_us, state.since_us)
    opened = Scd2Open(
        version_id=version_id(change.table, key, change, source),
        key=key,
        valid_from=format_us(valid_from_us),
        attributes=after,
        changed=changed,
        reason=_open_reason(change, state, vanished=vanished),
        source=source,
        previous_key=change.previous_key,
    )
    closed: tuple[Scd2Close, ...] = ()
    if state is not None and state.alive:
        closed = _close(key, state, valid_from_us, "vanished" if vanished else "superseded", source)
    new = RowState(True, after, lsn, snapshot_lsn, opened.version_id, valid_from_us, recorded_ms)
    return Scd2Result(new, (*closed, opened))


def apply_truncate(key: Key, state: RowState, truncation: Truncation) -> Scd2Result:
    """Close the open version of a row that the TRUNCATE deleted. A row written after it, or already deleted, stays as it is."""
    if not state.alive or not is_older(state, truncation.lsn):
        return Scd2Result(state, effect="unchanged")
    ended_us = max(truncation.commit_us, state.since_us)
    gone = RowState(
        False, state.attributes, truncation.lsn, state.snapshot_lsn, state.version_id, ended_us, state.recorded_ms
    )
    return Scd2Result(gone, _close(key, state, ended_us, "truncated", truncation.source))


def apply_snapshot(key: Key, state: RowState, snapshot: Snapshot) -> Scd2Result:
    """Close the open version of a row that a snapshot shows as deleted, at the snapshot's time: the time of deletion is unknown."""
    if not is_missing(state, snapshot):
        return Scd2Result(state, effect="unchanged")
    ended_us = max(snapshot.taken_us, state.since_us)
    gone = RowState(
        False, state.attributes, state.lsn, snapshot.lsn, state.version_id, ended_us, state.recorded_ms
    )  # fmt: skip
    return Scd2Result(gone, _close(key, state, ended_us, "vanished", snapshot.source))


def _was_gone(change: RowChange, state: RowState) -> bool:
    """Returns whether an insert shows that a row that exists in the state was deleted before: an insert later than the state of the row
    needs a free key. The deletion is missing from the input, or its command (a TRUNCATE, a snapshot) has not arrived yet."""
    return change.operation == "c" and change.lsn is not None and is_older(state, change.lsn)


def _delete(change: RowChange, key: Key, state: RowState | None, source: Source, recorded_ms: int) -> Scd2Result:
    if state is None:
        gone = RowState(False, change.before or {}, change.lsn, None, "", change.commit_us, recorded_ms)
        return Scd2Result(gone, effect="unchanged")
    lsn, snapshot_lsn = next_positions(state, change)
    attributes = change.before if change.before and len(change.before) >= len(state.attributes) else state.attributes
    ended_us = max(change.commit_us, state.since_us)
    gone = RowState(False, attributes, lsn, snapshot_lsn, state.version_id, ended_us, recorded_ms)
    if not state.alive:
        return Scd2Result(gone, effect="unchanged")
    return Scd2Result(
        gone,
        _close(key, state, ended_us, "deleted" if change.next_key is None else "key_changed", source, change.next_key),
    )


def _close(
    key: Key, state: RowState, valid_to_us: int, reason: CloseReason, source: Source, next_key: Key | None = None
) -> tuple[Scd2Close]:
    return (
        Scd2Close(
            version_id=state.version_id,
            key=key,
            valid_from=format_us(state.since_us),
            valid_to=format_us(valid_to_us),
            reason=reason,
            source=source,
            next_key=next_key,
        ),
    )


def _open_reason(change: RowChange, state: RowState | None, *, vanished: bool) -> OpenReason:
    if change.previous_key is not None:
        return "key_changed"
    if state is None or not state.version_id:
        return "created"
    if vanished or not state.alive:
        return "revived"
    return "resnapshot" if change.operation == "r" else "updated"
