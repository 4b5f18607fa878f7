"""Builds the Faust app of the warehouse worker, which loads the objects of the lake.

Run it with `faust -A app.warehouse worker` or `bankstream worker warehouse`. The ledger records which objects are loaded; it is updated in
the same transaction as the rows.
"""

import asyncio
from collections.abc import Mapping

from aiokafka import TopicPartition

from app.config.settings import EngineSettings, KafkaSettings, S3Settings, SnowflakeSettings, WarehouseSettings, load
from app.config.topics import LAKE_OBJECTS, read_catalogue
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim
from app.engine.keys import partition_for
from app.engine.subtopologies import sink_subtopology
from sinks.announcements import AnnouncementPartition, announcement_key
from sinks.base import ChainKey, ObjectStore, Warehouse
from sinks.loader import Loader
from sinks.sessions import open_store
from sinks.snowflake import SnowflakeWarehouse
from sinks.snowpipe_client import SnowpipeClient
from sinks.snowpipe_streaming import StreamingWarehouse

APP_ID = "bankstream-warehouse"


class LoaderService:
    """Runs one loader for all partitions of the announcements' topic that this worker owns. It loads the chains announced there."""

    def __init__(
        self,
        engine: Engine,
        warehouse: Warehouse,
        store: ObjectStore,
        landing: Mapping[str, str],
        settings: WarehouseSettings,
        partitions: int,
    ) -> None:
        """`landing` maps a topic to its landing table. `partitions` is the partition count of the announcements' topic."""
        self._engine, self._partitions = engine, partitions
        self._owned: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self.loader = Loader(warehouse, store, landing, settings, owns=self._owns)
        engine.add(sink_subtopology(LAKE_OBJECTS.name, self._partition))

    async def close(self) -> None:
        """Stops loading. A load in progress may still commit or roll back in the warehouse; the ledger has the outcome."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _partition(self, number: int) -> AnnouncementPartition:
        async def end() -> int:
            tp = TopicPartition(LAKE_OBJECTS.name, number)
            ends = await self._engine.log.end([tp])
            return ends[tp]

        def opened() -> None:
            self._owned.add(number)
            if self._task is None:
                self._task = asyncio.create_task(self.loader.run(), name="loader")

        return AnnouncementPartition(self.loader, end, opened=opened, closed=lambda: self._owned.discard(number))

    def _owns(self, key: ChainKey) -> bool:
        return partition_for(announcement_key(key.topic, key.partition), self._partitions) in self._owned


class WarehouseApp(App):
    """Closes the connections to S3 and the warehouse after the partitions."""

    def __init__(self, engine: Engine, loading: LoaderService, store: ObjectStore, warehouse: Warehouse) -> None:
        super().__init__(APP_ID, engine, claim(engine.settings.state_dir / APP_ID))
        self._loading, self._store, self._warehouse = loading, store, warehouse

    async def on_stop(self) -> None:
        """Closes the partitions first, then the loader, the warehouse and the store."""
        await super().on_stop()
        await self._loading.close()
        await self._warehouse.close()
        await self._store.close()


def chosen(
    snowflake: SnowflakeSettings, settings: WarehouseSettings, store: ObjectStore, landing: Mapping[str, str]
) -> Warehouse:
    """Returns the warehouse client that BANKSTREAM_WAREHOUSE_SINK selects."""
    by_copy = SnowflakeWarehouse(snowflake)
    if settings.sink == "copy":
        return by_copy
    return StreamingWarehouse(SnowpipeClient(snowflake), by_copy, store, landing, settings)


def make_app() -> App:
    """Returns the Faust app, with settings from the environment."""
    kafka = load(KafkaSettings)
    engine = Engine(kafka, load(EngineSettings))
    store, settings = open_store(load(S3Settings)), load(WarehouseSettings)
    landing = read_catalogue({}).landing
    warehouse = chosen(load(SnowflakeSettings), settings, store, landing)
    loading = LoaderService(engine, warehouse, store, landing, settings, LAKE_OBJECTS.partition_count(kafka.partitions))
    made = WarehouseApp(engine, loading, store, warehouse)
    made.dispatch(LAKE_OBJECTS.name, LAKE_OBJECTS.name)
    return made


app = make_app()
