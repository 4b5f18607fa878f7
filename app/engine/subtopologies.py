"""Builds the two kinds of subtopology: a partition group with transactional state, and a topic that is written to a sink."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rocksdict import Cache

from app.engine.engine import Engine, Subtopology
from app.engine.partition_group import GroupPartition, PartitionGroup, RecordHandler
from app.engine.processors import Processor, SinkPartition, SinkProcessor, TransactionalProcessor


def transactional_subtopology(
    group: PartitionGroup, handlers: Mapping[str, RecordHandler], engine: Engine, *, state: Path, cache: Cache
) -> Subtopology:
    """Returns the subtopology of a group. `handlers` has one handler for each topic; raises ValueError if one is missing."""
    if missing := set(group.topics) - handlers.keys():
        raise ValueError(f"group {group.name} has no handler for {', '.join(sorted(missing))}")

    def make(number: int) -> Processor:
        partition = GroupPartition(
            group, number, kafka=engine.kafka, engine=engine.settings, log=engine.log, state=state, cache=cache
        )
        return TransactionalProcessor(partition, dict(handlers))

    return Subtopology(group.name, group.topics, make, partitions=group.partitions, group_id=group.app_id)


def sink_subtopology(topic: str, partition: Callable[[int], SinkPartition]) -> Subtopology:
    """Returns the subtopology of a topic whose partitions are written to a sink."""
    return Subtopology(topic, (topic,), lambda number: SinkProcessor(topic, partition(number)))
