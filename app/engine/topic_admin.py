"""Creates the declared topics that are missing, and refuses an existing topic with another partition count."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.kafka import KafkaLog, connection
from app.errors import BankstreamError, ContinuityError

logger = logging.getLogger(__name__)

CREATION_TIMEOUT_S = 30
TOMBSTONES_MS = 7 * 24 * 3_600_000
"""How long a compacted topic keeps a tombstone (`delete.retention.ms`; Kafka's default is a day)."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """The declaration of a topic. `config` holds Kafka's topic settings."""

    name: str
    partitions: int
    config: Mapping[str, str]


def policy(*, cleanup: str, retention_ms: int, engine: EngineSettings, kafka: KafkaSettings) -> dict[str, str]:
    """Returns Kafka's topic settings for a cleanup policy; `retention_ms` -1: records do not expire."""
    config = {
        "cleanup.policy": cleanup,
        "retention.ms": str(retention_ms),
        "max.message.bytes": str(engine.max_record_bytes + 4096),
        "min.insync.replicas": "2" if kafka.replication_factor > 2 else "1",
    }
    if "compact" in cleanup:
        # a few hot keys of a changelog are overwritten often: small segments are compacted sooner, which keeps a cold restore short
        config |= {
            "segment.bytes": str(32 << 20),
            "min.cleanable.dirty.ratio": "0.2",
            "delete.retention.ms": str(TOMBSTONES_MS),
        }
    return config


async def ensure_topics(specs: Iterable[TopicSpec], kafka: KafkaSettings) -> list[str]:
    """Creates the missing topics and returns their names. It is idempotent.

    Raises ContinuityError if a topic exists with another partition count. The count is never changed here, because keys would move to
    partitions that lack their state.
    """
    wanted = {spec.name: spec for spec in specs}
    async with KafkaLog(kafka) as log:
        existing = await log.topics(wanted)
        for name, info in existing.items():
            if info.partitions != wanted[name].partitions:
                raise ContinuityError(
                    f"topic {name} has {info.partitions} partitions, but {wanted[name].partitions} are configured. Set "
                    "BANKSTREAM_TOPIC_PARTITIONS to what exists; changing the count needs new topics and a rebuild."
                )
        missing = [spec for name, spec in wanted.items() if name not in existing]
        if missing:
            await _create(missing, kafka)
            await _visible([spec.name for spec in missing], log)
    return [spec.name for spec in missing]


async def _create(specs: list[TopicSpec], kafka: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    try:
        response = await admin.create_topics(
            [
                NewTopic(spec.name, spec.partitions, kafka.replication_factor, topic_configs=dict(spec.config))
                for spec in specs
            ],
            timeout_ms=CREATION_TIMEOUT_S * 1000,
        )
        for name, code, *rest in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise BankstreamError(
                    f"Kafka refused to create topic {name}: {for_code(code).__name__} {rest[0] if rest else ''}".rstrip()
                )
    finally:
        await admin.close()


async def _visible(names: list[str], log: KafkaLog) -> None:
    """Waits until created topics are in the metadata, which takes a moment to reach every broker."""
    try:
        async with asyncio.timeout(CREATION_TIMEOUT_S):
            while len(await log.topics(names)) < len(names):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BankstreamError(
            f"created topics are not visible after {CREATION_TIMEOUT_S} s: {', '.join(names)}"
        ) from None
