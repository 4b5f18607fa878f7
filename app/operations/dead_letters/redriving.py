"""Sending dead letters again: to the topic, partition and key they came from, in their old order, all in one transaction.

Order per key: a refused change that a later change of the same key has overtaken is not sent. The later one carried the whole row, so
current state is right already, and the old one, coming now, would be dropped by its log position; it would only look as if it
had been repaired. `force` sends it nevertheless. Sending one twice is harmless for the same reason.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from app.config.settings import KafkaSettings
from app.config.topics import ACCOUNTS, CUSTOMERS, TRANSACTIONS, TRANSACTIONS_CDC
from app.engine.committed_reader import POLL_MS, committed_consumer
from app.engine.kafka import KafkaLog, connection
from app.operations.dead_letters.letters import NamedDeadLetter

REDRIVEN_FROM: Final = "bankstream.redriven-from"
"""Header of a record that was sent again: where it stood."""
TRANSACTIONAL_ID: Final = "bankstream-redrive"
ROW_KEYS: Final = {
    CUSTOMERS.name: "customer_id",
    ACCOUNTS.name: "account_id",
    TRANSACTIONS_CDC.name: "transaction_id",
    TRANSACTIONS.name: "transaction_id",
}
"""The column that says which row a record of a topic is of."""


@dataclass(frozen=True, slots=True)
class RedriveDecision:
    """What becomes of a letter: `obstacle` says why it is not sent, None that it is."""

    found: NamedDeadLetter
    obstacle: str | None


async def decide(
    found: Sequence[NamedDeadLetter], everything: Sequence[NamedDeadLetter], kafka: KafkaSettings
) -> list[RedriveDecision]:
    """For each of `found`, in the order in which they are to be sent, whether it may be. `everything`: all dead letters there are."""
    refused = {one.letter.origin for one in everything}
    by_partition: dict[TopicPartition, list[NamedDeadLetter]] = defaultdict(list)
    for one in found:
        by_partition[TopicPartition(one.letter.topic, one.letter.partition)].append(one)
    async with KafkaLog(kafka) as log:
        infos = await log.topics({tp.topic for tp in by_partition})
    verdicts: list[RedriveDecision] = []
    async with committed_consumer(kafka) as consumer:
        for tp, letters in sorted(by_partition.items()):
            letters.sort(key=lambda one: one.letter.offset)
            if tp.topic not in infos or tp.partition >= infos[tp.topic].partitions:
                verdicts += [RedriveDecision(one, f"there is no {tp.topic}/{tp.partition} any more") for one in letters]
            else:
                verdicts += await _judge(consumer, tp, letters, refused)
    return verdicts


async def send(verdicts: Sequence[RedriveDecision], kafka: KafkaSettings) -> None:
    """Send these letters, in this order, in one transaction."""
    producer = AIOKafkaProducer(**connection(kafka), transactional_id=TRANSACTIONAL_ID)
    await producer.start()
    try:
        async with producer.transaction():
            for verdict in verdicts:
                letter = verdict.found.letter
                headers = [*letter.headers, (REDRIVEN_FROM, letter.origin.encode())]
                await producer.send(letter.topic, letter.value, letter.key, letter.partition, headers=headers)
    finally:
        await producer.stop()


async def _judge(
    consumer: Any, tp: TopicPartition, letters: Sequence[NamedDeadLetter], refused: set[str]
) -> list[RedriveDecision]:
    consumer.assign([tp])
    first, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    rows = {one.name: _row(one.letter.topic, one.letter.value) for one in letters}
    wanted = set(rows.values())
    processed: dict[str, int] = {}
    """The last offset at which a change of a wanted row was processed."""
    consumer.seek(tp, max(letters[0].letter.offset + 1, first))
    while await consumer.position(tp) < end:
        for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
            row = _row(tp.topic, record.value)
            if row is not None and row in wanted and f"{tp.topic}/{tp.partition}/{record.offset}" not in refused:
                processed[row] = record.offset
    return [RedriveDecision(one, _obstacle(one, rows[one.name], processed, first)) for one in letters]


def _obstacle(one: NamedDeadLetter, row: str | None, processed: Mapping[str, int], first: int) -> str | None:
    if row is None:
        return "it does not say which row it is of, so whether a later change of that row was processed cannot be told"
    if first > one.letter.offset + 1:
        return f"Kafka has records only from offset {first} on, so whether a later change of its row was processed cannot be told"
    if processed.get(row, -1) > one.letter.offset:
        return f"a later change of its row was processed, at offset {processed[row]}: this one would be dropped as older than the row"
    return None


def _row(topic: str, value: bytes | None) -> str | None:
    """Which row a record is of; None if it does not say. A message key alone does not: an account has many transactions."""
    column = ROW_KEYS.get(topic)
    if column is None:
        return topic  # its records are not of rows, so only their own order counts
    try:
        record = msgspec.json.decode(value or b"")
    except (msgspec.MsgspecError, RecursionError):
        return None
    for inner in ("payload", "after", "before"):
        if isinstance(record, dict) and isinstance(record.get(inner), dict):
            record = record[inner]
    found = record.get(column) if isinstance(record, dict) else None
    return None if found is None else str(found)
