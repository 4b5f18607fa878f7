"""Reads committed records from Kafka without a consumer group, and updates the demo's state with counts and latencies."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition

from app.config.settings import KafkaSettings
from app.config.topics import (
    ALERTS,
    CUSTOMERS,
    DEAD_LETTERS,
    LAKE_OBJECTS,
    SCD2_CUSTOMERS,
    TRANSACTIONS_CDC,
    Catalogue,
)
from app.domain.records import AlertRecord, Scd2Open, Scd2Record
from app.domain.times import parse_us
from app.engine.committed_reader import committed_reader
from app.local.demo.demo_state import CDC, DERIVED, OBJECTS, DemoState
from app.local.demo.load_latency import LoadLatency
from app.proof.reconcile.barrier import partitions_of

FETCH_TIMEOUT_MS: Final = 100
MAX_RECORDS: Final = 2_000
GATHERED_BYTES: Final = 1 << 20
"""Topics outside PROMPT are fetched ten times a second instead of once per transaction, so that observing does not slow the system."""
PROMPT: Final = (ALERTS, LAKE_OBJECTS)
"""Topics whose records are timed when they arrive."""
REMEMBERED_ROWS: Final = 1_000
"""Maximum number of customers' previous rows, each kept until the version of the change arrives."""


class _Origin(msgspec.Struct):
    ts_us: int | None = None
    ts_ms: int | None = None


class _Envelope(msgspec.Struct):
    op: str | None = None
    before: dict[str, Any] | None = None
    source: _Origin | None = None
    payload: "_Envelope | None" = None


class _Commit(msgspec.Struct):
    """An envelope without the rows, for changes that are only timed."""

    op: str | None = None
    source: _Origin | None = None
    payload: "_Commit | None" = None


class _Announcement(msgspec.Struct):
    topic: str
    partition: int
    last_offset: int
    rows: int
    bytes: int


class LogObserver:
    """Call `start`, then `run` until cancelled, and `begin` to start measuring latencies. `on_alert` is called for each new alert."""

    def __init__(
        self,
        settings: KafkaSettings,
        catalogue: Catalogue,
        board: DemoState,
        coverage: LoadLatency,
        on_alert: Callable[[AlertRecord], None],
    ) -> None:
        self._settings, self._board, self._coverage, self._on_alert = settings, board, coverage, on_alert
        self._archived = LoadLatency(board.commit_to_lake)
        self._prompt = committed_reader(settings)
        self._gathering = committed_reader(settings, fetch_max_wait_ms=FETCH_TIMEOUT_MS, fetch_min_bytes=GATHERED_BYTES)
        self._since_us: float = math.inf
        self._rows: OrderedDict[tuple[int, int], Mapping[str, Any]] = OrderedDict()
        self._envelopes, self._commits = msgspec.json.Decoder(_Envelope), msgspec.json.Decoder(_Commit)
        self._alerts = msgspec.json.Decoder(AlertRecord)
        self._versions = msgspec.json.Decoder(Scd2Record)
        self._announcements = msgspec.json.Decoder(_Announcement)
        self._handlers: dict[str, Callable[[Any, int], None]] = {
            CUSTOMERS.name: self._customer,
            TRANSACTIONS_CDC.name: self._transaction,
            SCD2_CUSTOMERS.name: self._version,
            ALERTS.name: self._alert,
            DEAD_LETTERS.name: self._dead_letter,
            LAKE_OBJECTS.name: self._object,
        }
        cdc, derived = board.stages[CDC], board.stages[DERIVED]
        self._meters = {topic.name: cdc for topic in catalogue.cdc} | {
            topic.name: derived for topic in catalogue.derived
        }

    async def start(self) -> None:
        """Connect and seek to the end of every topic. Records written from then on are read."""
        prompt = {topic.name for topic in PROMPT}
        rest = self._meters.keys() - prompt
        for consumer, topics in ((self._prompt, prompt), (self._gathering, rest)):
            await consumer.start()
            partitions = await partitions_of(self._settings, sorted(topics))
            consumer.assign(partitions)
            for partition, end in (await consumer.end_offsets(partitions)).items():
                consumer.seek(partition, end)

    def begin(self) -> None:
        """Measure the latency of changes that are committed from now on."""
        self._since_us = time.time_ns() // 1_000

    async def stop(self) -> None:
        """Close the consumers."""
        await self._prompt.stop()
        await self._gathering.stop()

    async def run(self) -> None:
        """Observe until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(self._prompt))
            group.create_task(self._follow(self._gathering))

    async def _follow(self, consumer: Any) -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=FETCH_TIMEOUT_MS, max_records=MAX_RECORDS)
            now_us = time.time_ns() // 1_000
            for partition, records in fetched.items():
                self._take(partition, records, now_us)
            await asyncio.sleep(0)

    def _take(self, partition: TopicPartition, records: list[Any], now_us: int) -> None:
        meter = self._meters.get(partition.topic)
        if meter is not None:
            meter.total += len(records)
        handler = self._handlers.get(partition.topic)
        if handler is None:
            return
        for record in records:
            if record.value is not None:
                try:
                    handler(record, now_us)
                except (msgspec.MsgspecError, ValueError, KeyError):
                    continue  # the workers report an invalid record; the observer only leaves it out

    def _transaction(self, record: Any, now_us: int) -> None:
        found = self._commits.decode(record.value)
        found = found.payload or found
        commit_us = _commit_us(found.source)
        if commit_us is not None and commit_us >= self._since_us and found.op in ("c", "u", "d"):
            place = (record.topic, record.partition)
            self._archived.changed(place, record.offset, commit_us, now_us)
            self._coverage.changed(place, record.offset, commit_us, now_us)

    def _customer(self, record: Any, _now_us: int) -> None:
        found = self._envelopes.decode(record.value)
        found = found.payload or found
        if found.op == "u" and found.before:
            self._rows[record.partition, record.offset] = found.before
            if len(self._rows) > REMEMBERED_ROWS:
                self._rows.popitem(last=False)

    def _version(self, record: Any, _now_us: int) -> None:
        version = self._versions.decode(record.value)
        if isinstance(version, Scd2Open) and version.reason == "updated":
            before = self._rows.pop((version.source.partition, version.source.offset), None)
            if before is not None:
                self._board.version(version, before)

    def _alert(self, record: Any, now_us: int) -> None:
        alert = self._alerts.decode(record.value)
        commit_us = parse_us(alert.source.commit_time)
        if self._board.alert(alert, now_us - commit_us if commit_us >= self._since_us else None):
            self._on_alert(alert)

    def _dead_letter(self, _record: Any, _now_us: int) -> None:
        self._board.dead_letters += 1

    def _object(self, record: Any, now_us: int) -> None:
        found = self._announcements.decode(record.value)
        place = (found.topic, found.partition)
        self._archived.ledger({place: found.last_offset}, now_us)
        if self._coverage.announced(place, found.last_offset, found.rows):
            self._board.stages[OBJECTS].total += 1
            self._board.object_bytes += found.bytes


def _commit_us(source: _Origin | None) -> int | None:
    if source is None:
        return None
    return source.ts_us if source.ts_us is not None else source.ts_ms and source.ts_ms * 1_000
