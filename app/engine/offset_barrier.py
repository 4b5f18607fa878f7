"""Runs an action once a partition has processed a topic up to its end offset at the time of the request."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping

from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.engine.committed_reader import committed_consumer
from app.engine.kafka import KafkaLog
from app.engine.unit_of_work import UnitOfWork

BarrierKey = tuple[str, Hashable]
"""An input topic and an id that is unique among the barriers of that topic. Each barrier has its own end offset."""

PendingBarriers = Callable[[UnitOfWork], Mapping[BarrierKey, Callable[[UnitOfWork], None]]]
"""Reads the pending barriers from the state of a group, each with its action. The action runs when the barrier is reached, and must remove
the barrier from the state."""

LOOK_S = 1.0
"""Timeout of one read of the log. A read that takes longer is repeated at the next punctuation."""


class OffsetBarriers:
    """Determines which barriers of one partition are reached: those for which every committed record below the end offset is processed.

    The end offset is the high watermark, read once per barrier, after the barrier became pending. It also covers transactions whose end
    this worker has not read yet.
    """

    def __init__(self, number: int, kafka: KafkaSettings, log: KafkaLog) -> None:
        self._number, self._kafka, self._log = number, kafka, log
        self._ends: dict[BarrierKey, int] = {}

    async def reached(self, pending: Iterable[BarrierKey], position: Callable[[str], int | None]) -> list[BarrierKey]:
        """Returns those of `pending` that are reached. `position` returns the next offset of a topic to process."""
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
    """Returns whether [begin, end) holds no committed record: only transaction markers and aborted records. Returns False also while a
    transaction is open there, because its outcome is not known."""
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
