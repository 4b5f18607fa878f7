"""Creates the topics of the catalogue and the changelogs of the streams groups. Connect creates its own three topics."""

from collections.abc import Iterable

from aiokafka.errors import KafkaError

from app.config.settings import EngineSettings, KafkaSettings
from app.config.topics import Catalogue
from app.engine.partition_group import PartitionGroup
from app.engine.topic_admin import TopicSpec, ensure_topics, policy
from app.errors import one_line
from app.operations.provision.errors import TopicsError


def specs(
    catalogue: Catalogue, groups: Iterable[PartitionGroup], kafka: KafkaSettings, engine: EngineSettings
) -> list[TopicSpec]:
    """Returns the configuration of every topic. A changelog is compacted, or deleted after its table's retention if the table has one."""
    topics = [
        TopicSpec(
            topic.name,
            topic.partition_count(kafka.partitions),
            policy(cleanup=topic.cleanup, retention_ms=topic.retention_ms, engine=engine, kafka=kafka),
        )
        for topic in catalogue.topics
    ]
    changelogs = [
        TopicSpec(
            changelog.topic,
            group.partitions,
            policy(
                cleanup="compact" if changelog.retention_ms is None else "delete",
                retention_ms=-1 if changelog.retention_ms is None else changelog.retention_ms,
                engine=engine,
                kafka=kafka,
            ),
        )
        for group in groups
        for changelog in group.changelogs
    ]
    return topics + changelogs


async def provision(
    catalogue: Catalogue, groups: Iterable[PartitionGroup], kafka: KafkaSettings, engine: EngineSettings
) -> list[str]:
    """Creates the missing topics. Returns their names. ContinuityError if a topic exists with another partition count.

    TopicsError if Kafka cannot be reached or rejects the request.
    """
    try:
        return await ensure_topics(specs(catalogue, groups, kafka, engine), kafka)
    except KafkaError as error:
        raise TopicsError(
            f"Kafka at {kafka.bootstrap_servers} failed a request: {one_line(error)}. Check BANKSTREAM_KAFKA_*, and that Kafka runs; its "
            "log says more."
        ) from error
