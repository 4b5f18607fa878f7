"""Checks Kafka: the topics and their configuration, the positions of the streams worker, and the workers' consumer groups."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.config.settings import KafkaSettings
from app.engine.committed_reader import read_all_committed
from app.engine.kafka import KafkaLog, connection
from app.engine.partition_group import POSITIONS, PartitionGroup
from app.engine.positions import CHANGELOG, Position, decode
from app.engine.topic_admin import TopicSpec
from app.operations.doctor.findings import Finding

READ_TIMEOUT_S: Final = 60
LAG_RECORDS: Final = 100_000
FOREVER: Final = -1


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """The actual configuration of a topic."""

    partitions: int
    replicas: int
    offline: int
    """The number of partitions without a leader or with replicas that are not in sync."""
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The first offset of a partition in Kafka, and its end offset."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class GroupPositions:
    """The positions, changelog ids and committed offsets of one partition of a streams group."""

    group: PartitionGroup
    number: int
    positions: Mapping[str, Position] = field(default_factory=dict)
    changelogs: Mapping[str, UUID] = field(default_factory=dict)
    """By table, the topic id of the changelog that its state was written to."""
    committed: Mapping[str, int] = field(default_factory=dict)
    """The offsets that the consumer group has committed, by topic."""


def judge_topics(specs: Sequence[TopicSpec], found: Mapping[str, TopicFacts], replication: int) -> list[Finding]:
    """Compares the topics in Kafka with the configured ones."""
    findings: list[Finding] = []
    for spec in specs:
        topic = found.get(spec.name)
        if topic is None:
            findings.append(Finding("topic-missing", spec.name, f"topic {spec.name} does not exist"))
            continue
        if topic.partitions != spec.partitions:
            findings.append(
                Finding(
                    "topic-partitions",
                    spec.name,
                    f"it has {topic.partitions} partitions, {spec.partitions} are configured",
                )
            )
        findings += _judge_policy(spec, topic.config)
        if topic.replicas < replication:
            findings.append(
                Finding(
                    "topic-replicas",
                    spec.name,
                    f"topic {spec.name} has {topic.replicas} replicas, {replication} are configured",
                )
            )
        if topic.offline:
            findings.append(
                Finding(
                    "topic-offline", spec.name, f"{topic.offline} of its partitions lack a leader or replicas in sync"
                )
            )
    return findings


def _judge_policy(spec: TopicSpec, config: Mapping[str, str]) -> list[Finding]:
    findings: list[Finding] = []

    def differs(code: str, key: str) -> None:
        findings.append(
            Finding(
                code, spec.name, f"topic {spec.name} has {key}={config[key]} instead of {spec.config[key]}",
                f"kafka-configs.sh --alter --entity-type topics --entity-name {spec.name} --add-config {key}={spec.config[key]}",
            )
        )  # fmt: skip

    if set(config["cleanup.policy"].split(",")) != set(spec.config["cleanup.policy"].split(",")):
        differs("topic-policy", "cleanup.policy")
    if _shorter(config["retention.ms"], spec.config["retention.ms"]) and "delete" in config["cleanup.policy"]:
        differs("topic-policy", "retention.ms")
    if int(config["max.message.bytes"]) < int(spec.config["max.message.bytes"]):
        differs("topic-size", "max.message.bytes")
    if int(config["min.insync.replicas"]) < int(spec.config["min.insync.replicas"]):
        differs("topic-replicas", "min.insync.replicas")
    return findings


def _shorter(has: str, wanted: str) -> bool:
    return int(has) != FOREVER and (int(wanted) == FOREVER or int(has) < int(wanted))


def judge_positions(
    processed: Iterable[GroupPositions], ids: Mapping[str, UUID], ends: Mapping[tuple[str, int], LogBounds]
) -> list[Finding]:
    """Checks that each partition of the streams groups can continue from its position."""
    findings: list[Finding] = []
    for one in processed:
        for topic, position in one.positions.items():
            place = ends.get((topic, one.number))
            if place is not None and topic in ids:
                findings += _judge_position(
                    f"{one.group.name} {topic}/{one.number}", topic, one.number, position, ids[topic], place
                )
        for table, made_with in one.changelogs.items():
            topic = one.group.changelog(table)
            if topic in ids and ids[topic] != made_with:
                findings.append(
                    Finding(
                        "changelog-recreated",
                        f"{topic}/{one.number}",
                        f"changelog {topic} had id {made_with} when the state was written, and has id {ids[topic]} now",
                    )
                )
        if not one.positions:
            gone = {
                t: at for t, at in one.committed.items() if (e := ends.get((t, one.number))) and e.first < at <= e.end
            }
            findings += [
                Finding(
                    "state-gone",
                    f"{one.group.name}/{one.number}",
                    f"{topic}/{one.number} was processed through offset {at - 1}, but has no state",
                )
                for topic, at in gone.items()
            ]
    return findings


def _judge_position(
    subject: str, topic: str, number: int, position: Position, topic_id: UUID, place: LogBounds
) -> list[Finding]:
    accept = f"bankstream gaps accept streams {topic}/{number}"
    done = f"{topic}/{number} was processed through offset {position.offset - 1}"
    if position.topic_id != topic_id:
        return [
            Finding(
                "topic-recreated", subject, f"{done} of the topic with id {position.topic_id}; now it is {topic_id}, with offsets "
                f"{place.first} to {place.end - 1}", f"if that loss is accepted, with no streams worker running: {accept} --reason '…'",
            )
        ]  # fmt: skip
    if position.offset < place.first:
        return [
            Finding(
                "records-expired", subject,
                f"{done}, Kafka begins with {place.first}: offsets {position.offset} to {place.first - 1} are lost",
                f"if that loss is accepted, with no streams worker running: {accept} --reason '…'",
            )
        ]  # fmt: skip
    if position.offset > place.end:
        return [
            Finding(
                "records-lost",
                subject,
                f"{done}, Kafka ends with {place.end - 1}: offsets {place.end} to {position.offset - 1} are lost",
            )
        ]
    return []


def judge_group(kind: str, members: int, lag: int, unread: Sequence[str] = ()) -> list[Finding]:
    """Checks that workers of a kind run, read all topics and keep up. `unread`: topics with records of which none was read."""
    findings: list[Finding] = []
    if members == 0:
        findings.append(
            Finding(
                "worker-absent",
                kind,
                f"no {kind} worker is in its consumer group",
                f"bankstream worker {kind}; its log says why it ended, if it did",
            )
        )
    else:
        findings += [
            Finding("topic-unread", topic, f"no {kind} worker has read any record of {topic}") for topic in unread
        ]
    if lag > LAG_RECORDS:
        findings.append(Finding("worker-behind", kind, f"{kind} workers are {lag:,} records behind"))
    return findings


async def check_topics(kafka: KafkaSettings, specs: Sequence[TopicSpec]) -> list[Finding]:
    """Checks that topics exist, their partition counts, configuration and replicas."""
    names = [spec.name for spec in specs]
    async with KafkaLog(kafka) as log:
        existing = sorted(await log.topics(names))
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    try:
        described = await admin.describe_topics(existing)
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in existing])
    finally:
        await admin.close()
    configs = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    found = {
        topic["topic"]: TopicFacts(
            partitions=len(topic["partitions"]),
            replicas=min(len(part["replicas"]) for part in topic["partitions"]),
            offline=sum(part["leader"] < 0 or len(part["isr"]) < len(part["replicas"]) for part in topic["partitions"]),
            config=configs[topic["topic"]],
        )
        for topic in described
    }
    return judge_topics(specs, found, kafka.replication_factor)


async def check_positions(kafka: KafkaSettings, groups: Sequence[PartitionGroup]) -> list[Finding]:
    """Compares the positions and changelogs of the streams groups with Kafka."""
    names = {
        *(topic for group in groups for topic in group.topics),
        *(log.topic for group in groups for log in group.changelogs),
    }
    async with KafkaLog(kafka) as log:
        infos = await log.topics(sorted(names))
        inputs = [
            TopicPartition(topic, number)
            for topic in sorted({topic for group in groups for topic in group.topics} & infos.keys())
            for number in range(infos[topic].partitions)
        ]
        processed = [
            one
            for group in groups
            if group.changelog(POSITIONS) in infos
            for one in await read_positions(kafka, group, log)
        ]
        first, end = (
            await log.beginning(inputs),
            await log.end(inputs),
        )  # read after the positions, so that no position can exceed the end
    ends = {(tp.topic, tp.partition): LogBounds(first[tp], end[tp]) for tp in inputs}
    return judge_positions(processed, {name: info.id for name, info in infos.items()}, ends)


async def read_positions(kafka: KafkaSettings, group: PartitionGroup, log: KafkaLog) -> list[GroupPositions]:
    """Returns the positions of every partition of a group, in order. Reads the whole positions changelog."""
    changelog = group.changelog(POSITIONS)
    latest: dict[int, dict[bytes, bytes]] = {number: {} for number in range(group.partitions)}
    async with asyncio.timeout(READ_TIMEOUT_S):
        async for record in read_all_committed(kafka, [TopicPartition(changelog, number) for number in latest]):
            latest[record.partition][record.key] = record.value
    committed = await log.committed(
        group.app_id, [TopicPartition(topic, number) for topic in group.topics for number in latest]
    )
    return [
        GroupPositions(
            group,
            number,
            {topic: decode(raw) for topic in group.topics if (raw := values.get(topic.encode())) is not None},
            {key.removeprefix(CHANGELOG).decode(): UUID(bytes=raw) for key, raw in values.items() if key.startswith(CHANGELOG)},
            {tp.topic: offset for tp, offset in committed.items() if tp.partition == number},
        )
        for number, values in latest.items()
    ]  # fmt: skip


async def check_group(kafka: KafkaSettings, kind: str, group_id: str, topics: Iterable[str]) -> list[Finding]:
    """Checks the members and the lag of a consumer group."""
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    try:
        answers = await admin.describe_consumer_groups([group_id])
    finally:
        await admin.close()
    members = sum(len(group[5]) for answer in answers for group in answer.groups)
    async with KafkaLog(kafka) as log:
        tps = [
            TopicPartition(name, n)
            for name, info in (await log.topics(sorted(topics))).items()
            for n in range(info.partitions)
        ]
        committed = await log.committed(group_id, tps)
        end = await log.end(tps)
    unread = {tp.topic for tp in tps if end[tp]} - {tp.topic for tp in committed}
    lag = sum(max(0, end[tp] - offset) for tp, offset in committed.items())
    return judge_group(kind, members, lag, sorted(unread))
