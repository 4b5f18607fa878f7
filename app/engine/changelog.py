"""Reading changelogs fast: committed keys and values by whole fetches.

aiokafka's consumer makes an object of eleven fields of every record, which is most of what a restore would cost (3 of 4 us a record).
Here one fetch asks for all partitions, and what comes back is taken batch by batch; aborted transactions and control records are sorted
out by aiokafka's own code.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from app.config.settings import KafkaSettings
from app.engine.kafka import connection

logger = logging.getLogger(__name__)

WAIT_MS: Final = 50
PARTITION_BYTES: Final = 4 << 20
FETCH_BYTES: Final = 8 << 20
"""Of one fetch; all partitions that are restored side by side may have as much in memory."""
RETRY_S: Final = 0.1
NO_LEADER: Final = -1


class Fetched(PartitionRecords):
    """Consecutive committed records of one partition, each with `key` and `value`. To be iterated once, and not kept: records that die at
    once cost the garbage collector nothing, and a list of them most of the time that there is."""

    @property
    def tp(self) -> TopicPartition:
        """Whose records they are."""
        return self._tp

    @property
    def next(self) -> int:
        """Where to read on once this is iterated: behind the last record or marker."""
        offset: int = self.next_fetch_offset
        return offset

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:  # noqa: ARG002 - aiokafka's signature
        return record


class ChangelogReader:
    """Use as an async context manager. In no group, with no position of its own."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._client = AIOKafkaClient(**connection(kafka))

    async def __aenter__(self) -> Self:
        await self._client.bootstrap()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def fetch(self, positions: Mapping[TopicPartition, int]) -> list[Fetched]:
        """What there is from these offsets on, up to the last stable offset; nothing if there is nothing within WAIT_MS.

        Also nothing, after a pause, where a broker does not answer or has given a partition away: the caller asks again, for as long as it
        has time. OffsetOutOfRangeError when Kafka no longer has an offset; other errors of Kafka as they are.
        """
        await self._client.set_topics({tp.topic for tp in positions})
        by_leader: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
        for tp, offset in positions.items():
            by_leader[self._client.cluster.leader_for_partition(tp)][tp] = offset
        answers = await asyncio.gather(*(self._ask(node, wanted) for node, wanted in by_leader.items()))
        if None in answers:
            await asyncio.sleep(RETRY_S)
            await self._client.force_metadata_update()
        return [fetched for answer in answers if answer is not None for fetched in answer]

    async def _ask(self, node: int | None, wanted: Mapping[TopicPartition, int]) -> list[Fetched] | None:
        """From one broker. None when the question has to be asked again, with new metadata."""
        if node is None or node == NO_LEADER:
            return None
        topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for tp, offset in wanted.items():
            topics[tp.topic].append((tp.partition, offset, PARTITION_BYTES))
        try:
            answer = await self._client.send(
                node, FetchRequest(WAIT_MS, 1, FETCH_BYTES, READ_COMMITTED, list(topics.items()))
            )
            return [
                _decode(TopicPartition(topic, partition), wanted, code, aborted, raw)
                for topic, partitions in answer.topics
                for partition, code, _, *_, aborted, raw in map(_without_replica(answer.API_VERSION), partitions)
            ]
        except KafkaError as error:
            if not error.retriable:
                raise
            logger.info("broker %d does not hand out changelogs at the moment: %r", node, error)
            return None


def _without_replica(version: int) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """From version 11 on, the replica to prefer stands between the aborted transactions and the records."""
    return (lambda partition: (*partition[:-2], partition[-1])) if version >= 11 else (lambda partition: partition)


def _decode(tp: TopicPartition, wanted: Mapping[TopicPartition, int], code: int, aborted: Any, raw: bytes) -> Fetched:
    error = for_code(code)
    if error is OffsetOutOfRangeError:
        raise OffsetOutOfRangeError({tp: wanted[tp]})
    if code:
        raise error(f"{tp.topic}/{tp.partition}")
    return Fetched(
        tp, MemoryRecords(raw), aborted, wanted[tp], None, None, check_crcs=True, isolation_level=READ_COMMITTED
    )
