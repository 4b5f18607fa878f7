"""Reads committed records for the verifier: each partition from its previous position up to an end offset that is fixed before."""

from array import array
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from hashlib import blake2b
from types import TracebackType
from typing import Any, Self

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.engine.committed_reader import committed_reader
from app.engine.kafka import KafkaLog

PAGE = 2_000


def digest(key: bytes | None, value: bytes | None) -> int:
    """A 64-bit hash of a record."""
    return int.from_bytes(blake2b(b"%b\0%b" % (key or b"-", value or b"-"), digest_size=8).digest())


class Reader:
    """A consumer of some partitions, as an async context manager for one verification. The caller keeps the positions."""

    def __init__(self, kafka: KafkaSettings, positions: dict[TopicPartition, int]) -> None:
        self._kafka, self._positions = kafka, positions
        self._buffers: dict[TopicPartition, deque[Any]] = {tp: deque() for tp in positions}
        self.ends: Mapping[TopicPartition, int] = {}
        """End offset (exclusive) of each partition. `take` waits until the transactions before it are committed or aborted."""

    async def __aenter__(self) -> Self:
        self._consumer = committed_reader(
            self._kafka, auto_offset_reset="none", fetch_max_wait_ms=20, max_partition_fetch_bytes=2 << 20
        )
        await self._consumer.start()
        self._consumer.assign(list(self._positions))
        for tp, position in self._positions.items():
            self._consumer.seek(tp, position)
        # The high watermarks, because the last stable offset may still be below committed records.
        async with KafkaLog(self._kafka) as log:
            self.ends = await log.end(self._positions)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def take(self, tp: TopicPartition, limit: int) -> list[Any]:
        """The next `limit` records of a partition, or fewer at its end."""
        buffer = self._buffers[tp]
        while len(buffer) < limit and await self._consumer.position(tp) < self.ends[tp]:
            fetched = await self._consumer.getmany(tp, timeout_ms=200, max_records=PAGE)
            buffer.extend(record for record in fetched.get(tp, ()) if record.offset < self.ends[tp])
        taken = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
        if taken:
            self._positions[tp] = taken[-1].offset + 1
        return taken

    async def pages(self, tp: TopicPartition) -> AsyncIterator[list[Any]]:
        """All records up to the end, in pages."""
        while page := await self.take(tp, PAGE):
            yield page


def beginning(tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Positions at offset 0. The logs of a bank under test never expire."""
    return dict.fromkeys(tps, 0)


class Seen:
    """The offsets and digests of the committed records of one topic partition; digests only of those not yet found in the lake."""

    def __init__(self) -> None:
        self.offsets: array[int] = array("q")
        self.digests: array[int] = array("Q")
        self.compared = 0
        """Number of offsets that were compared with the lake."""

    def add(self, records: list[Any]) -> None:
        """Adds the next records."""
        self.offsets.extend(record.offset for record in records)
        self.digests.extend(digest(record.key, record.value) for record in records)

    def held(self) -> None:
        """Marks all offsets as found in the lake."""
        self.compared = len(self.offsets)
        self.digests = array("Q")
