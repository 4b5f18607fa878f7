"""Declares state tables, and defines the view of a table that a handler gets in a unit of work."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

K = TypeVar("K")
Key_contra = TypeVar("Key_contra", contravariant=True)
V = TypeVar("V")

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Table(Generic[K, V]):
    """A keyed table. Its content is the last value of each key in its changelog topic.

    Keys are ordered by their encoded bytes; `encode_key` must therefore be injective, and order-preserving where scans are used.
    `retention_ms` is None for a compacted changelog (the last value of every key is kept for ever). With a value, the changelog
    keeps that many milliseconds and is not compacted: for tables of many small entries that expire by age.
    """

    name: str
    encode_key: Callable[[K], bytes]
    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    retention_ms: int | None = None


def require_declared(table: Table[K, V], tables: Collection[str]) -> str:
    """Returns the table's name. Raises KeyError if the group does not declare the table."""
    if table.name not in tables:
        raise KeyError(f"table {table.name!r} is not declared for this partition group; it has {sorted(tables)}")
    return table.name


class View(Protocol[Key_contra, V]):
    """One partition of a table in a unit of work. Reads see the unit's own writes, which others see only after the commit."""

    def get(self, key: Key_contra) -> V | None:
        """Returns the value of a key, or None."""
        ...

    def put(self, key: Key_contra, value: V) -> None:
        """Sets a key in the store and in the changelog."""
        ...

    def delete(self, key: Key_contra) -> None:
        """Removes a key from the store and writes a tombstone to the changelog. The key need not exist."""
        ...

    def evict(self, key: Key_contra) -> None:
        """Removes a key from the store only; its changelog record expires by age. For tables with `retention_ms`."""
        ...

    def get_encoded(self, key: bytes) -> bytes | None:
        """Like `get`, with an encoded key and value."""
        ...

    def put_encoded(self, key: bytes, value: bytes) -> None:
        """Like `put`, with an encoded key and value."""
        ...

    def delete_encoded(self, key: bytes) -> None:
        """Like `delete`, with an encoded key."""
        ...

    def evict_encoded(self, key: bytes) -> None:
        """Like `evict`, with an encoded key."""
        ...

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """Yields entries with start <= encoded key < end in ascending byte order; `end` None: to the end of the table."""
        ...
