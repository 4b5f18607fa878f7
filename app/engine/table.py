"""State tables: what a handler declares, and the view it gets inside a unit of work."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

K = TypeVar("K")
Key_contra = TypeVar("Key_contra", contravariant=True)
V = TypeVar("V")

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Table(Generic[K, V]):
    """A keyed table whose content is the sum of its changelog topic.

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
    """The table's name. KeyError unless it is one of the group's."""
    if table.name not in tables:
        raise KeyError(f"table {table.name!r} is not declared for this partition group; it has {sorted(tables)}")
    return table.name


class View(Protocol[Key_contra, V]):
    """One table's partition inside a unit of work. Reads see the unit's own writes; nothing is visible outside before commit."""

    def get(self, key: Key_contra) -> V | None:
        """The value of a key, or None."""
        ...

    def put(self, key: Key_contra, value: V) -> None:
        """Set a key, here and in the changelog."""
        ...

    def delete(self, key: Key_contra) -> None:
        """Remove a key, here and in the changelog. Removing what is not there is allowed."""
        ...

    def evict(self, key: Key_contra) -> None:
        """Remove a key here only; its changelog record is left to expire. For tables with `retention_ms`."""
        ...

    def get_encoded(self, key: bytes) -> bytes | None:
        """`get`, of a key and with a value as the table encodes them."""
        ...

    def put_encoded(self, key: bytes, value: bytes) -> None:
        """`put`, of a key and a value as the table encodes them."""
        ...

    def evict_encoded(self, key: bytes) -> None:
        """`evict`, of a key as the table encodes it."""
        ...

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, V]]:
        """Entries with start <= encoded key < end, in ascending byte order. `end` None means to the end of the table."""
        ...
