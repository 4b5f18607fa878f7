"""Builds the Faust app of the lake worker, which archives every record of every landed topic in S3.

Run it with `faust -A app.lake worker` or `bankstream worker lake`. Every record is in exactly one object, and there is no gap between two
objects of a partition.
"""

import asyncio
from functools import partial

from app.config.settings import EngineSettings, KafkaSettings, LakeSettings, S3Settings, load
from app.config.topics import LAKE_OBJECTS, read_catalogue
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim
from app.engine.subtopologies import sink_subtopology
from sinks.announcements import Announcer
from sinks.archive import LakePartition
from sinks.base import ObjectStore
from sinks.sessions import open_store

APP_ID = "bankstream-lake"


class LakeApp(App):
    """Closes the connections to S3 and Kafka after the partitions."""

    fetch_min_bytes = 1 << 20
    """A larger minimum saves fetch responses: objects are cut only a few times a second, and a response per transaction would be wasted."""

    def __init__(self, engine: Engine, store: ObjectStore, announcer: Announcer) -> None:
        super().__init__(APP_ID, engine, claim(engine.settings.state_dir / APP_ID))
        self._store, self._announcer = store, announcer

    async def on_stop(self) -> None:
        """Closes the partitions first, then the announcer and the store."""
        await super().on_stop()
        await self._announcer.close()
        await self._store.close()


def archive(
    topic: str,
    engine: Engine,
    store: ObjectStore,
    announcer: Announcer,
    settings: LakeSettings,
    slots: asyncio.Semaphore,
) -> None:
    """Adds to the engine the archiving of a topic. `slots` limits the concurrent uploads of the whole worker."""

    def partition(number: int) -> LakePartition:
        return LakePartition(
            topic,
            number,
            store=store,
            topic_id=partial(topic_id, engine, topic),
            announce=announcer.announce,
            settings=settings,
            slots=slots,
        )

    engine.add(sink_subtopology(topic, partition))


async def topic_id(engine: Engine, topic: str) -> str:
    """Returns Kafka's id of the topic. A recreated topic has another id and begins a new chain."""
    infos = await engine.log.require([topic])
    return str(infos[topic].id)


def make_app() -> App:
    """Returns the Faust app, with settings from the environment."""
    kafka, settings = load(KafkaSettings), load(LakeSettings)
    engine = Engine(kafka, load(EngineSettings))
    store, announcer = open_store(load(S3Settings)), Announcer(LAKE_OBJECTS.name, kafka)
    slots = asyncio.Semaphore(settings.max_uploads)
    topics = read_catalogue({}).landed
    for topic in topics:
        archive(topic.name, engine, store, announcer, settings, slots)
    made = LakeApp(engine, store, announcer)
    for topic in topics:
        made.dispatch(topic.name, topic.name)
    return made


app = make_app()
