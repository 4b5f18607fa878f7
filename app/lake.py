"""The lake worker: `faust -A app.lake worker`, or `bankstream worker lake`. Composition only."""

from agents.lake import archive
from app.config.settings import EngineSettings, KafkaSettings, LakeSettings, S3Settings, load
from app.config.topics import LAKE_OBJECTS
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim
from sinks.hints import Announcer
from sinks.s3 import S3Store

APP_ID = "bankstream-lake"


class LakeApp(App):
    """Lets go of S3 and Kafka when the partitions are closed."""

    fetch_min_bytes = 1 << 20
    """Objects are made a few times a second: an answer for each transaction, of fifty partitions, would be for nothing."""

    def __init__(self, engine: Engine, store: S3Store, announcer: Announcer) -> None:
        super().__init__(APP_ID, engine, claim(engine.settings.state_dir / APP_ID))
        self._store, self._announcer = store, announcer

    async def on_stop(self) -> None:
        """Partitions first."""
        await super().on_stop()
        await self._announcer.close()
        await self._store.close()


def make_app() -> App:
    """The Faust app, with settings from the environment."""
    kafka = load(KafkaSettings)
    engine = Engine(kafka, load(EngineSettings))
    store, announcer = S3Store(load(S3Settings)), Announcer(LAKE_OBJECTS.name, kafka)
    topics = archive(engine, store, announcer, load(LakeSettings))
    made = LakeApp(engine, store, announcer)
    for topic in topics:
        made.dispatch(topic, topic)
    return made


app = make_app()
