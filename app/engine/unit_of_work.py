"""The unit of work: everything the batches of one transaction read and write, committed in one Kafka transaction or not at all."""

from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol, TypeVar

from app.engine.table import Table, View
from app.errors import PoisonRecordError

K = TypeVar("K")
V = TypeVar("V")

Headers = Sequence[tuple[str, bytes]]


class InputRecord(Protocol):
    """A Kafka record as a handler sees it; aiokafka's ConsumerRecord is one. `timestamp` is in milliseconds since the epoch."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    @property
    def partition(self) -> int:
        """The partition's number."""
        ...

    @property
    def offset(self) -> int:
        """Where it stands in its partition."""
        ...

    @property
    def timestamp(self) -> int:
        """When it was produced, in milliseconds since the epoch."""
        ...

    @property
    def key(self) -> bytes | None:
        """The key's bytes."""
        ...

    @property
    def value(self) -> bytes | None:
        """The value's bytes; None for a tombstone."""
        ...

    @property
    def headers(self) -> Headers:
        """Names and values, in order."""
        ...


class UnitOfWork(Protocol):
    """What a handler may do with one record: read and write tables of its group, and emit records.

    A handler is a function `apply(record: InputRecord, unit: UnitOfWork) -> None`. It must be deterministic given the record, the tables
    and `now_us`. When it raises `PoisonRecordError`, what it wrote for this record is undone and the record goes to the dead letters;
    any other exception ends the process, with the record's position in the last log line.
    """

    @property
    def partition(self) -> int:
        """The partition number of the group that this unit belongs to."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions the group's topics have."""
        ...

    @property
    def now_us(self) -> int:
        """The clock, in microseconds since the epoch: the wall clock live, the record's own timestamp in a replay."""
        ...

    @property
    def cache(self) -> MutableMapping[Any, Any]:
        """A bounded cache of derived objects for this partition. Anything in it may vanish at any time, and all of it does when a
        record is undone; it must be possible to make every entry again from the tables."""
        ...

    def table(self, table: Table[K, V]) -> View[K, V]:
        """The view of a table declared for this group. KeyError if the group has no such table."""
        ...

    def emit(self, topic: str, *, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """Send a record when the unit commits. Without `partition` the key decides, by Kafka's default partitioner (murmur2), over the
        partition count that the topic has in the catalogue. Order is kept per topic and partition."""
        ...

    def dead_letter(self, record: InputRecord, error: PoisonRecordError) -> None:
        """Bury an earlier record that turned out to be hopeless (it waited for something that never came). For the record at hand,
        raise `error` instead."""
        ...
