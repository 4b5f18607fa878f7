"""The lake. Rule: every record of every landed topic is in exactly one object, and nothing is cut out between two of them."""

import asyncio
from functools import partial

from app.config.settings import LakeSettings
from app.config.topics import LANDED
from app.engine.engine import Engine
from app.engine.subtopologies import sink_subtopology
from sinks.archive import LakePartition
from sinks.base import ObjectStore
from sinks.hints import Announcer


def archive(engine: Engine, store: ObjectStore, announcer: Announcer, settings: LakeSettings) -> tuple[str, ...]:
    """Archive every landed topic; answers their names."""
    slots = asyncio.Semaphore(settings.max_uploads)

    def partition(topic: str, number: int) -> LakePartition:
        return LakePartition(
            topic,
            number,
            store=store,
            topic_id=partial(topic_id, engine, topic),
            announce=announcer.announce,
            settings=settings,
            slots=slots,
        )

    for topic in LANDED:
        engine.add(sink_subtopology(topic.name, partial(partition, topic.name)))
    return tuple(topic.name for topic in LANDED)


async def topic_id(engine: Engine, topic: str) -> str:
    """Kafka's id of the topic: one that was made anew begins a new chain."""
    infos = await engine.log.require([topic])
    return str(infos[topic].id)
