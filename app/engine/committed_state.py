"""State for readers beside the processing: what the last committed transaction left, and never what a batch is about to write.

A unit of work keeps its writes in an overlay of its own and the store gets them in one step, after Kafka has committed; so whoever reads
the store on the worker's event loop, without waiting in between, sees the effects of whole transactions only.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from app.engine.store import ReadOnlyStore
from app.engine.table import Table, require_declared

K = TypeVar("K")
V = TypeVar("V")


class CommittedState:
    """One partition's tables. For the moment only: ask for another one after every `await`."""

    def __init__(self, store: ReadOnlyStore, tables: frozenset[str], positions: Mapping[str, int]) -> None:
        """`positions`: up to where each input is in this state."""
        self.positions = positions
        self._store, self._tables = store, tables

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The value of a key, or None. KeyError if the group has no such table."""
        raw = self._store.get(require_declared(table, self._tables), table.encode_key(key))
        return None if raw is None else table.decode(raw)

    def scan(self, table: Table[K, V], start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """Entries with start <= encoded key < end, in ascending byte order; to be exhausted before the next `await`."""
        for raw_key, raw in self._store.scan(require_declared(table, self._tables), start, end):
            yield raw_key, table.decode(raw)
