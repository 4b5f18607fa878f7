"""Collects the effects of one transaction: uncommitted table writes over the store, records to send, and an undo log per input record."""

import bisect
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from app.engine.dead_letters import DeadLetter, dead_letter, encode_dead_letter
from app.engine.keys import partition_for
from app.engine.store import ReadOnlyStore
from app.engine.table import Table, View, require_declared
from app.engine.unit_of_work import InputRecord
from app.errors import PoisonRecordError

K = TypeVar("K")
V = TypeVar("V")

Pair = tuple[bytes | None, bytes | None]


Change = tuple[str, bytes, bytes | None]
"""A write to a table: its name, the key, and the value (None: deleted)."""


@dataclass(slots=True)
class Overlay:
    """The uncommitted writes to one table, by key; None: deleted."""

    slots: dict[bytes, bytes | None] = field(default_factory=dict)
    ordered: list[bytes] | None = None
    """The sorted keys of `slots`; None until the first scan."""


_NOTHING: Final = b"\0nothing written\0"
"""Stands for a key without an uncommitted write. Compared by identity."""

Undo = tuple[Overlay, bytes, bytes | None] | list[Any]
"""Reverses one step: restores a key's earlier write (`_NOTHING`: it had none), or removes the last item of a list."""


class OverlayView(Generic[K, V]):
    """One table inside a unit of work. Implements `View`."""

    def __init__(self, table: Table[K, V], store: ReadOnlyStore, overlay: Overlay, undo_log: list[Undo]) -> None:
        self._table, self._store, self._overlay, self._undo_log = table, store, overlay, undo_log
        self._name, self._encode_key, self._encode, self._decode = (
            table.name,
            table.encode_key,
            table.encode,
            table.decode,
        )

    def get(self, key: K) -> V | None:
        """Returns the value of a key, or None."""
        raw_key = self._encode_key(key)  # same as `get_encoded`, inlined to save the call
        raw = self._overlay.slots.get(raw_key, _NOTHING)
        if raw is _NOTHING:
            raw = self._store.get(self._name, raw_key)
        return None if raw is None else self._decode(raw)

    def get_encoded(self, key: bytes) -> bytes | None:
        """Returns the encoded value of an encoded key, or None."""
        raw = self._overlay.slots.get(key, _NOTHING)
        return self._store.get(self._name, key) if raw is _NOTHING else raw

    def put(self, key: K, value: V) -> None:
        """Set a key."""
        self._set(self._encode_key(key), self._encode(value))

    def put_encoded(self, key: bytes, value: bytes) -> None:
        """Set an encoded key to an encoded value."""
        self._set(key, value)

    def delete(self, key: K) -> None:
        """Remove a key."""
        self._set(self._table.encode_key(key), None)

    def delete_encoded(self, key: bytes) -> None:
        """Remove an encoded key."""
        self._set(key, None)

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """Yields entries with start <= encoded key < end in ascending byte order, including the unit's own writes."""
        decode = self._table.decode
        mine = iter(self._written(start, end))
        stored = self._store.scan(self._table.name, start, end)
        left, right = next(mine, None), next(stored, None)
        while left is not None or right is not None:
            if right is None or (left is not None and left <= right[0]):
                assert left is not None
                if right is not None and left == right[0]:
                    right = next(stored, None)
                value = self._overlay.slots[left]
                if value is not None:
                    yield left, decode(value)
                left = next(mine, None)
            else:
                yield right[0], decode(right[1])
                right = next(stored, None)

    def _written(self, start: bytes, end: bytes | None) -> list[bytes]:
        overlay = self._overlay
        if not overlay.slots:
            return []
        if overlay.ordered is None:
            overlay.ordered = sorted(overlay.slots)
        low = bisect.bisect_left(overlay.ordered, start)
        high = len(overlay.ordered) if end is None else bisect.bisect_left(overlay.ordered, end)
        return overlay.ordered[low:high]

    def _set(self, raw_key: bytes, value: bytes | None) -> None:
        overlay = self._overlay
        before = overlay.slots.get(raw_key, _NOTHING)
        overlay.slots[raw_key] = value
        if before is _NOTHING and overlay.ordered is not None:
            bisect.insort(overlay.ordered, raw_key)
        self._undo_log.append((overlay, raw_key, before))


class BatchUnitOfWork:
    """The unit of work of one transaction of one partition. Implements `UnitOfWork`; `records` and `changes` are its outputs and state.

    Call `mark()` before each record, and `undo()` if the record turns out to be poison.
    """

    def __init__(
        self,
        *,
        partition: int,
        partitions: int,
        tables: frozenset[str],
        store: ReadOnlyStore,
        cache: MutableMapping[Any, Any],
        partitions_of: Callable[[str], int],
        dead_letter_topic: str,
        now_us: int,
    ) -> None:
        self.partition, self.partitions = partition, partitions
        self.cache, self.now_us = cache, now_us
        self._tables, self._store = tables, store
        self._partitions_of, self._dead_letter_topic = partitions_of, dead_letter_topic
        self._overlays: dict[str, Overlay] = {}
        self._views: dict[str, OverlayView[Any, Any]] = {}
        self.undo_log: list[Undo] = []
        self._counts: dict[str, int] = {}
        self.records: dict[tuple[str, int], list[Pair]] = {}
        self.dead_letters: list[DeadLetter] = []

    def table(self, table: Table[K, V]) -> View[K, V]:
        """Returns the view of a table that the group declares."""
        view = self._views.get(table.name)
        if view is None:
            overlay = self._overlays[require_declared(table, self._tables)] = Overlay()
            view = self._views[table.name] = OverlayView(table, self._store, overlay, self.undo_log)
        return view

    def emit(self, topic: str, *, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """Send a record when the unit commits."""
        if partition is None:
            partition = self.partition_of(topic, key)
        pairs = self.records.get((topic, partition))
        if pairs is None:
            pairs = self.records[topic, partition] = []
        pairs.append((key, value))
        self.undo_log.append(pairs)

    def partition_of(self, topic: str, key: bytes | None) -> int:
        """Returns the partition of a key in a topic."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = self._partitions_of(topic)
        return partition_for(key, count)

    def dead_letter(self, record: InputRecord, error: PoisonRecordError) -> None:
        """Send a record to the dead-letter topic in this transaction."""
        letter = dead_letter(record, error, self.now_us)
        self.dead_letters.append(letter)
        self.undo_log.append(self.dead_letters)
        self.emit(self._dead_letter_topic, key=letter.key, value=encode_dead_letter(letter))

    def mark(self) -> None:
        """Set the point to which `undo` returns: everything written so far is kept."""
        self.undo_log.clear()

    def undo(self) -> None:
        """Remove everything written since `mark`.

        Clears the whole cache too, because cached objects may have been modified since then; but not if nothing was written, because a
        handler modifies a cached object only for a record that it does not refuse, or after a write (`UnitOfWork.cache`).
        """
        if not self.undo_log:
            return
        while self.undo_log:
            step = self.undo_log.pop()
            if isinstance(step, list):
                step.pop()
            else:
                _restore(*step)
        self.cache.clear()

    def changes(self) -> list[Change]:
        """Returns one change per key."""
        return [
            (table, key, value) for table, overlay in self._overlays.items() for key, value in overlay.slots.items()
        ]

    @property
    def empty(self) -> bool:
        """True if there is nothing to commit."""
        return not any(self.records.values()) and not any(overlay.slots for overlay in self._overlays.values())


def _restore(overlay: Overlay, raw_key: bytes, before: bytes | None) -> None:
    if before is not _NOTHING:
        overlay.slots[raw_key] = before
        return
    del overlay.slots[raw_key]
    if overlay.ordered is not None:
        overlay.ordered.remove(raw_key)
