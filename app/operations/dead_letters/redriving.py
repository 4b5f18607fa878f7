"""Redrives dead letters: sends them to their original topic, partition and key, in their original order, in one transaction.

Order per row: a rejected change is not sent if a later change of the same row was processed. The later change carried the whole row, so
the current state is correct already. The stale change would be dropped because of its log position, and the redrive would look like a
repair without being one. `force` sends it all the same. For the same reason, sending a change twice is harmless.
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
"""The header of a redriven record: its original topic, partition and offset."""
TRANSACTIONAL_ID: Final = "bankstream-redrive"
ROW_KEYS: Final = {
    CUSTOMERS.name: "customer_id",
    ACCOUNTS.name: "account_id",
    TRANSACTIONS_CDC.name: "transaction_id",
    TRANSACTIONS.name: "transaction_id",
}
"""The column that identifies the row of a record, by topic."""


@dataclass(frozen=True, slots=True)
class RedriveDecision:
    """The decision about one dead letter. `obstacle` says why it is not sent; None: it is sent."""

    found: NamedDeadLetter
    obstacle: str | None


async def decide(
    found: Sequence[NamedDeadLetter], everything: Sequence[NamedDeadLetter], kafka: KafkaSettings
) -> list[RedriveDecision]:
    """Returns a decision for each of `found`, in the order of sending. `everything`: all dead letters of the topic."""
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
                verdicts += [RedriveDecision(one, f"{tp.topic}/{tp.partition} no longer exists") for one in letters]
            else:
                verdicts += await _judge(consumer, tp, letters, refused)
    return verdicts


async def send(verdicts: Sequence[RedriveDecision], kafka: KafkaSettings) -> None:
    """Sends these letters, in this order, in one transaction."""
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
        return "it does not identify its row, so it is unknown whether a later change of that row was processed"
    if first > one.letter.offset + 1:
        return f"Kafka has records only from offset {first} on, so it is unknown whether a later change of its row was processed"
    if processed.get(row, -1) > one.letter.offset:
        return f"a later change of its row was processed, at offset {processed[row]}: this change would be dropped as stale"
    return None


def _row(topic: str, value: bytes | None) -> str | None:
    """Returns the row of a record; None if the record does not identify it. The message key does not: an account has many transactions."""
    column = ROW_KEYS.get(topic)
    if column is None:
        return topic  # the topic's records are not rows, so their order on the topic decides
    try:
        record = msgspec.json.decode(value or b"")
    except (msgspec.MsgspecError, RecursionError):
        return None
    for inner in ("payload", "after", "before"):
        if isinstance(record, dict) and isinstance(record.get(inner), dict):
            record = record[inner]
    found = record.get(column) if isinstance(record, dict) else None
    return None if found is None else str(found)
