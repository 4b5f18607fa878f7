"""Read access to a partition's state as of the last committed transaction, without the writes of a batch in progress.

A unit of work keeps its writes in its own overlay. The store receives them in one step, after Kafka has committed. So code that reads the
store on the worker's event loop, with no `await` between reads, sees only whole transactions.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from app.engine.store import ReadOnlyStore
from app.engine.table import Table, require_declared

K = TypeVar("K")
V = TypeVar("V")


class CommittedState:
    """One partition's tables. Valid only until the next `await`; get a new one after it."""

    def __init__(self, store: ReadOnlyStore, tables: frozenset[str], positions: Mapping[str, int]) -> None:
        """`positions`: by input topic, the next offset after those whose effects are in this state."""
        self.positions = positions
        self._store, self._tables = store, tables

    def get(self, table: Table[K, V], key: K) -> V | None:
        """Returns the value of a key, or None. Raises KeyError if the group has no such table."""
        raw = self._store.get(require_declared(table, self._tables), table.encode_key(key))
        return None if raw is None else table.decode(raw)

    def scan_back(self, table: Table[K, V], start: bytes, end: bytes) -> Iterator[tuple[bytes, V]]:
        """Yields the same entries in descending order."""
        for raw_key, raw in self._store.scan_back(require_declared(table, self._tables), start, end):
            yield raw_key, table.decode(raw)

    def scan(self, table: Table[K, V], start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """Yields entries with start <= encoded key < end, in ascending byte order. Finish the iteration before the next `await`."""
        for raw_key, raw in self._store.scan(require_declared(table, self._tables), start, end):
            yield raw_key, table.decode(raw)
