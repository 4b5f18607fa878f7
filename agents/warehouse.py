"""The warehouse. Rule: the ledger says what is loaded, and moves in the same transaction as the rows."""

import asyncio

from aiokafka import TopicPartition

from app.config.settings import WarehouseSettings
from app.config.topics import LAKE_OBJECTS, LANDED
from app.engine.engine import Engine
from app.engine.keys import partition_for
from app.engine.subtopologies import sink_subtopology
from sinks.base import ChainKey, ObjectStore, Warehouse
from sinks.hints import HintPartition, hint_key
from sinks.loading import Loader


class Loading:
    """One loader for all partitions of the announcements that this worker has; it loads the chains that are announced there."""

    def __init__(
        self, engine: Engine, warehouse: Warehouse, store: ObjectStore, settings: WarehouseSettings, partitions: int
    ) -> None:
        self._engine, self._partitions = engine, partitions
        self._owned: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        landing = {topic.name: topic.landing for topic in LANDED if topic.landing is not None}
        self.loader = Loader(warehouse, store, landing, settings, owns=self._owns)
        engine.add(sink_subtopology(LAKE_OBJECTS.name, self._partition))

    async def close(self) -> None:
        """Stop loading. A load under way ends in the warehouse as it will; the ledger says how."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _partition(self, number: int) -> HintPartition:
        async def end() -> int:
            tp = TopicPartition(LAKE_OBJECTS.name, number)
            ends = await self._engine.log.end([tp])
            return ends[tp]

        def opened() -> None:
            self._owned.add(number)
            if self._task is None:
                self._task = asyncio.create_task(self.loader.run(), name="loader")

        return HintPartition(self.loader, end, opened=opened, closed=lambda: self._owned.discard(number))

    def _owns(self, key: ChainKey) -> bool:
        return partition_for(hint_key(key.topic, key.partition), self._partitions) in self._owned
