"""Holds PostgreSQL, Kafka, the lake and the warehouse against each other and against a recomputation: what is lost, doubled or wrong.

A verification goes on where the one before it ended; the bank must be drained.
"""

import asyncio
import contextlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition

from app.settings import KafkaSettings, SnowflakeSettings
from app.topics import CDC, LANDED
from sinks.snowflake import connect
from tests.faults.bank import Bank
from tests.faults.ledger import Changes, Op, TableName
from tests.faults.logs import Reader, beginning
from tests.support.stack import settings_of

MAX_DETAILS: Final = 40
INJECTED: Final = "injected"
"""Header of a record that a fault wrote into a CDC topic itself: the ledger knows nothing of it."""


@dataclass
class Verdict:
    """What was found. `details` name seed-independent facts: topics, offsets, keys, transactions."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    details: list[str] = field(default_factory=list)

    def add(self, detail: str, *, lost: int = 0, doubled: int = 0, wrong: int = 0) -> None:
        """Something that does not hold."""
        self.lost, self.doubled, self.wrong = self.lost + lost, self.doubled + doubled, self.wrong + wrong
        if len(self.details) < MAX_DETAILS:
            self.details.append(detail)


class _Source(msgspec.Struct):
    txId: int | None = None  # noqa: N815 - Debezium's name


class _Row(msgspec.Struct):
    customer_id: int = 0
    account_id: int = 0
    transaction_id: int = 0


class _Envelope(msgspec.Struct):
    op: str
    source: _Source
    before: _Row | None = None
    after: _Row | None = None


_envelopes = msgspec.json.Decoder(_Envelope)


class Verifier:
    """For one bank, over all its rows."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._kafka = settings_of(bank.environment, KafkaSettings)
        self._partitions = [TopicPartition(t.name, n) for t in LANDED for n in range(self._kafka.partitions)]
        self._positions = beginning(self._partitions)
        self._captured: dict[int, Changes] = {}
        self._offsets: dict[TopicPartition, array[int]] = {tp: array("q") for tp in self._partitions}

    def run(self) -> Verdict:
        """Everything that has come since the last time."""
        verdict = Verdict()
        asyncio.run(self._read())
        self._settle(verdict)
        self._landed(verdict)
        return verdict

    async def _read(self) -> None:
        async with Reader(self._kafka, self._positions) as reader:
            for tp in self._partitions:
                table = tp.topic.rpartition(".")[2] if tp.topic in {topic.name for topic in CDC} else ""
                async for page in reader.pages(tp):
                    self._offsets[tp].extend(record.offset for record in page)
                    if table:
                        for record in page:
                            self._capture(table, record)

    def _capture(self, table: Any, record: Any) -> None:
        if record.value is None or any(name == INJECTED for name, _ in record.headers):
            return
        envelope = _envelopes.decode(record.value)
        if envelope.op not in ("c", "u", "d") or envelope.source.txId is None:
            return
        kind: tuple[TableName, Op] = (table, envelope.op)  # type: ignore[assignment]
        row = envelope.after or envelope.before
        assert row is not None
        changes = self._captured.setdefault(envelope.source.txId, {})
        rows, total = changes.get(kind, (0, 0))
        changes[kind] = (rows + 1, total + getattr(row, f"{table[:-1]}_id"))

    def _settle(self, verdict: Verdict) -> None:
        """Every committed transaction was captured with exactly its rows, and nothing else was."""
        missing, differing = self._bank.ledger.settle(self._captured)
        for xid, changes in missing.items():
            rows = sum(rows for rows, _ in changes.values())
            verdict.add(f"capture: transaction {xid} with {changes} never came", lost=rows)
        for xid, (captured, confirmed) in differing.items():
            came, meant = (sum(rows for rows, _ in changes.values()) for changes in (captured, confirmed))
            verdict.add(
                f"capture: transaction {xid} came as {captured}, but {confirmed or 'no such one'} was committed",
                lost=max(0, meant - came), doubled=max(0, came - meant), wrong=int(meant == came),
            )  # fmt: skip

    def _landed(self, verdict: Verdict) -> None:
        """The warehouse has each offset of Kafka once."""
        with contextlib.closing(connect(settings_of(self._bank.environment, SnowflakeSettings))) as session:
            for table in sorted({topic.landing for topic in LANDED if topic.landing}):
                with session.cursor() as cursor:
                    rows = cursor.execute(
                        "SELECT record:topic::varchar, record:partition::int, count(*), count(DISTINCT record:offset::int), "  # noqa: S608 - ours
                        f"sum(record:offset::int) FROM BRONZE.{table} GROUP BY 1, 2"
                    )
                    found = {TopicPartition(t, int(n)): (int(a), int(b), int(c)) for t, n, a, b, c in rows or ()}
                    for tp in self._partitions:
                        if any(topic.name == tp.topic and topic.landing == table for topic in LANDED):
                            self._hold(tp, table, found, cursor, verdict)

    def _hold(
        self,
        tp: TopicPartition,
        table: str,
        found: Mapping[TopicPartition, tuple[int, int, int]],
        cursor: Any,
        verdict: Verdict,
    ) -> None:
        offsets = self._offsets[tp]
        if found.get(tp, (0, 0, 0)) == (len(offsets), len(offsets), sum(offsets)):
            return
        rows = cursor.execute(
            f"SELECT record:offset::int FROM BRONZE.{table} WHERE record:topic::varchar = '{tp.topic}' "  # noqa: S608 - ours
            f"AND record:partition::int = {tp.partition}"
        )
        landed = sorted(int(row[0]) for row in rows)
        missing = sorted(set(offsets) - set(landed))
        strange = sorted(set(landed) - set(offsets))
        doubled = len(landed) - len(set(landed)) + len(strange)
        verdict.add(
            f"warehouse: {tp.topic}/{tp.partition} lacks {missing[:8]} and has {doubled} too many, such as {strange[:8]}",
            lost=len(missing), doubled=doubled,
        )  # fmt: skip
