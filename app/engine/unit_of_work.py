"""Defines the unit of work: all reads and writes of the batches that are committed in one Kafka transaction or not at all."""

from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol, TypeVar

from app.engine.table import Table, View
from app.errors import PoisonRecordError

K = TypeVar("K")
V = TypeVar("V")

Headers = Sequence[tuple[str, bytes]]


class InputRecord(Protocol):
    """A Kafka record that a handler receives; aiokafka's ConsumerRecord is one. `timestamp` is in milliseconds since the epoch."""

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
        """The offset in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """The time it was produced, in milliseconds since the epoch."""
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
        """The headers' names and values, in order."""
        ...


class UnitOfWork(Protocol):
    """Lets a handler read and write the tables of its group and emit records.

    A handler is a function `apply(record: InputRecord, unit: UnitOfWork) -> None`. It must be deterministic given the record, the tables
    and `now_us`. When it raises `PoisonRecordError`, its writes for this record are undone and the record becomes a dead letter.
    Any other exception ends the process, with the record's position in the last log line.
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
        """The current time in microseconds since the epoch: the wall clock when live, the record's timestamp in a replay."""
        ...

    @property
    def cache(self) -> MutableMapping[Any, Any]:
        """A bounded cache of derived objects for this partition. Any entry may be evicted at any time. It must be possible to rebuild
        every entry from the tables.

        A refused record evicts all entries if it had written or emitted anything, and none otherwise. So a handler that modifies a cached
        object, or stores one that holds something the tables do not, must not refuse the record afterwards unless it has written
        before."""
        ...

    def table(self, table: Table[K, V]) -> View[K, V]:
        """Returns the view of a table of this group. Raises KeyError if the group does not declare it."""
        ...

    def emit(self, topic: str, *, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """Sends a record when the unit commits. Without `partition`, Kafka's default partitioner (murmur2) chooses it by the key, from the
        partition count of the topic in the catalogue. Order is kept per topic and partition."""
        ...

    def dead_letter(self, record: InputRecord, error: PoisonRecordError) -> None:
        """Sends an earlier record to the dead letters, such as one that waited for data that never arrived. For the current record, raise
        `error` instead."""
        ...
