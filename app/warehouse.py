"""The warehouse worker: `faust -A app.warehouse worker`, or `bankstream worker warehouse`. Composition only."""

from agents.warehouse import Loading
from app.config.settings import EngineSettings, KafkaSettings, S3Settings, SnowflakeSettings, WarehouseSettings, load
from app.config.topics import LAKE_OBJECTS, LANDED, partitions_of
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim
from sinks.base import Warehouse
from sinks.s3 import S3Store
from sinks.snowflake import SnowflakeWarehouse
from sinks.snowpipe_client import SnowpipeClient
from sinks.snowpipe_streaming import StreamingWarehouse

APP_ID = "bankstream-warehouse"


class WarehouseApp(App):
    """Lets go of S3 and the warehouse when the partitions are closed."""

    def __init__(self, engine: Engine, loading: Loading, store: S3Store, warehouse: Warehouse) -> None:
        super().__init__(APP_ID, engine, claim(engine.settings.state_dir / APP_ID))
        self._loading, self._store, self._warehouse = loading, store, warehouse

    async def on_stop(self) -> None:
        """Partitions first."""
        await super().on_stop()
        await self._loading.close()
        await self._warehouse.close()
        await self._store.close()


def chosen(snowflake: SnowflakeSettings, settings: WarehouseSettings, store: S3Store) -> Warehouse:
    """The way into the warehouse that BANKSTREAM_WAREHOUSE_SINK names."""
    by_copy = SnowflakeWarehouse(snowflake)
    if settings.sink == "copy":
        return by_copy
    landing = {topic.name: topic.landing for topic in LANDED if topic.landing is not None}
    return StreamingWarehouse(SnowpipeClient(snowflake), by_copy, store, landing, settings)


def make_app() -> App:
    """The Faust app, with settings from the environment."""
    kafka = load(KafkaSettings)
    engine = Engine(kafka, load(EngineSettings))
    store, settings = S3Store(load(S3Settings)), load(WarehouseSettings)
    warehouse = chosen(load(SnowflakeSettings), settings, store)
    loading = Loading(engine, warehouse, store, settings, partitions_of(LAKE_OBJECTS.name, kafka.partitions))
    made = WarehouseApp(engine, loading, store, warehouse)
    made.dispatch(LAKE_OBJECTS.name, LAKE_OBJECTS.name)
    return made


app = make_app()
