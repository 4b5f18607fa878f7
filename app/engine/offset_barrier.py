"""What has to wait until a partition has processed all that a topic had when the barrier became known."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.engine.committed_reader import committed_consumer
from app.engine.kafka import KafkaLog
from app.engine.unit import Unit

BarrierKey = tuple[str, Hashable]
"""An input topic, and a name for one barrier: another barrier of the same topic waits for an end of its own."""

PendingBarriers = Callable[[Unit], Mapping[BarrierKey, Callable[[Unit], None]]]
"""What a group waits for, from its state: each barrier with what to do when the topic has been processed up to an end that it had after the
barrier was known. What is done must take the barrier out of the state."""

LOOK_S = 1.0
"""How long one look into the log may take. One that takes longer is repeated at the next punctuation."""


class OffsetBarriers:
    """Says which of the things awaited on one partition have come: everything committed below the topic's end is processed.

    The end is the high watermark, asked for once a barrier, after it was known: it covers transactions whose end this worker has not seen.
    """

    def __init__(self, number: int, kafka: KafkaSettings, log: KafkaLog) -> None:
        self._number, self._kafka, self._log = number, kafka, log
        self._ends: dict[BarrierKey, int] = {}

    async def reached(self, pending: Iterable[BarrierKey], position: Callable[[str], int | None]) -> list[BarrierKey]:
        """Those of `pending` that have come. `position`: the next offset of a topic to process."""
        barriers = list(pending)
        self._ends = {barrier: end for barrier, end in self._ends.items() if barrier in barriers}
        return [barrier for barrier in barriers if await self._is_reached(barrier, position)]

    async def _is_reached(self, barrier: BarrierKey, position: Callable[[str], int | None]) -> bool:
        tp = TopicPartition(barrier[0], self._number)
        if barrier not in self._ends:
            self._ends[barrier] = (await self._log.end([tp]))[tp]
        end, begin = self._ends[barrier], position(tp.topic)
        if begin is None:
            begin = (await self._log.beginning([tp]))[tp]
        return begin >= end or await nothing_committed(self._kafka, tp, begin, end)


async def nothing_committed(kafka: KafkaSettings, tp: TopicPartition, begin: int, end: int) -> bool:
    """Whether no committed record has an offset in [begin, end): the marks of transactions and what was aborted fill it. False also when
    that cannot be known yet, because a transaction is open."""
    async with committed_consumer(kafka, fetch_max_wait_ms=100) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, begin)
        deadline = asyncio.get_running_loop().time() + LOOK_S
        while await consumer.position(tp) < end:
            records = (await consumer.getmany(tp, timeout_ms=100)).get(tp)
            if records:
                return bool(records[0].offset >= end)
            if asyncio.get_running_loop().time() > deadline:
                return False
        return True
