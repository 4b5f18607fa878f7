"""Checks Kafka's side of a trace: whether the record is still in Kafka, and whether it equals the archived one."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings
from app.engine.committed_reader import committed_reader
from app.engine.kafka import KafkaLog
from app.proof.trace.lake import ArchivedRecord
from app.proof.trace.record_position import RecordPosition
from app.proof.trace.report import Check, differs, holds, noted, unreachable

TIMEOUT_S: Final = 60.0
REQUEST_TIMEOUT_MS: Final = 20_000


class KafkaReader:
    """Reads single records from Kafka. Use it as an async context manager. Unreachable Kafka is a check result, not an error."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._log = KafkaLog(settings)
        self._consumer: Any = None
        self._away = ""
        self._ids: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._consumer = committed_reader(
            self._settings, auto_offset_reset="none", request_timeout_ms=REQUEST_TIMEOUT_MS
        )  # fmt: skip
        try:
            await self._consumer.start()
            await self._log.start()
        except KafkaError as error:
            self._away = f"Kafka at {self._settings.bootstrap_servers} does not answer: {type(error).__name__}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._log.stop()
        await self._consumer.stop()

    async def check(self, position: RecordPosition, found: ArchivedRecord | None) -> Check:
        """Checks that the record at this position equals the archived one."""
        if self._away:
            return unreachable(self._away)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._check(position, found)
        except (KafkaError, TimeoutError) as error:
            return unreachable(f"Kafka does not answer about {position}: {type(error).__name__}")

    async def _check(self, position: RecordPosition, found: ArchivedRecord | None) -> Check:
        topic_id = await self._topic_id(position.topic)
        if topic_id is None:
            return noted(f"topic {position.topic} no longer exists")
        if found is not None and found.chain.topic_id != topic_id:
            return noted("expired: the topic was recreated since")
        tp = TopicPartition(position.topic, position.partition)
        if position.offset < (await self._log.beginning([tp]))[tp]:
            return noted("expired: Kafka no longer keeps this offset")
        record = await self._record(tp, position.offset)
        if record is None:
            return differs("Kafka has a log here, but no committed record at this offset")
        if found is None or found.line is None:
            return noted("still in Kafka; there is no archived line to compare it with")
        return _compared(record, found)

    async def _record(self, tp: TopicPartition, offset: int) -> Any:
        """Returns the record at an offset; None if there is none."""
        end = (await self._log.end([tp]))[tp]
        self._consumer.assign([tp])
        self._consumer.seek(tp, offset)
        while await self._consumer.position(tp) < end:
            records: Sequence[Any] = (await self._consumer.getmany(tp, timeout_ms=200, max_records=1)).get(tp, ())
            if records:
                return records[0] if records[0].offset == offset else None
        return None

    async def _topic_id(self, topic: str) -> str | None:
        if topic not in self._ids:
            self._ids |= {name: str(info.id) for name, info in (await self._log.topics([topic])).items()}
        return self._ids.get(topic)


def _compared(record: Any, found: ArchivedRecord) -> Check:
    assert found.line is not None
    parts = (
        ("key", record.key, found.key), ("value", record.value, found.value), ("timestamp", record.timestamp, found.line.ts)
    )  # fmt: skip
    wrong = [name for name, there, here in parts if there != here]
    if wrong:
        return differs(f"Kafka's record has another {' and '.join(wrong)} than the archived line")
    return holds(f"still in Kafka, with the same {len(record.value or b''):,} bytes of value")
