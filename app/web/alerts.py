"""Alerts from the committed log: the recent ones, which every worker keeps in memory, and live streams, each with a reader of its own.

A place in the log is a vector of offsets, one a partition: "0:119,1:87". It is the id of every event of a stream, so that a client that
comes back with its last one misses nothing and gets nothing twice, whichever worker it comes back to.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from app.config.settings import KafkaSettings
from app.engine.committed_reader import committed_reader
from app.errors import discreet
from app.web import metrics
from app.web.problems import ProblemError, unavailable
from app.web.responses import Alert

logger = logging.getLogger(__name__)

FETCH_WAIT_MS: Final = 250
KEEPALIVE_S: Final = 10.0
RETRY_PAUSES_S: Final = (0.5, 1, 2, 5, 10)
EXPIRED: Final = (
    "These events are no longer in the log. Read /v1/alerts, or the warehouse, and begin a new stream from now."
)

_VECTOR: Final = re.compile(r"\d{1,6}:\d{1,18}(?:,\d{1,6}:\d{1,18})*", re.ASCII)

Vector = dict[int, int]
"""By partition, the next offset to read."""


def write_vector(vector: Mapping[int, int]) -> str:
    """As the id of an event.

    >>> write_vector({1: 87, 0: 119})
    '0:119,1:87'
    """
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(vector.items()))


def read_vector(text: str, partitions: int) -> Vector:
    """From the id of an event. ProblemError 400 if it is none of this topic."""
    vector: Vector = {}
    if _VECTOR.fullmatch(text):
        pairs = [pair.split(":") for pair in text.split(",")]
        vector = {int(partition): int(offset) for partition, offset in pairs}
        if len(vector) == len(pairs) and vector.keys() == set(range(partitions)):
            return vector
    raise ProblemError(
        HTTPStatus.BAD_REQUEST, "Last-Event-ID is not the id of an event of this stream. Leave it out to begin now."
    )


class _About(msgspec.Struct, frozen=True):
    """What is filtered and sorted by."""

    customer_id: int
    detected_at: str


_about: Final = msgspec.json.Decoder(_About)


def decode_header(record: ConsumerRecord) -> _About | None:
    """What a record is about; None, and a line in the log, for one without an alert's form. Nobody but the streams workers writes here."""
    try:
        return _about.decode(record.value)
    except (msgspec.MsgspecError, TypeError):
        logger.warning("%s/%d offset %d is no alert", record.topic, record.partition, record.offset)
        return None


class RecentAlerts:
    """The last alerts of all partitions. `run` keeps them up to date until it is cancelled."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int, kept: int) -> None:
        self._kafka, self._topic, self._partitions = kafka, topic, partitions
        self._kept: deque[tuple[_About, ConsumerRecord]] = deque(maxlen=kept)
        self._next: Vector = {}
        self._current = False

    async def run(self) -> None:
        """Read, and begin anew after an error; what is in memory is answered from meanwhile."""
        failures = 0
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                pause = RETRY_PAUSES_S[min(failures, len(RETRY_PAUSES_S) - 1)]
                failures += 1
                logger.warning("recent alerts are not read (%s), trying again in %s s", discreet(error), pause)
                await asyncio.sleep(pause)

    def newest(self, limit: int, customer_id: int | None) -> tuple[list[Alert], str]:
        """Newest first, and where a stream goes on. ProblemError 503 before the first reading is through."""
        if not self._current:
            raise unavailable("The recent alerts are still being read. Ask again in a moment.")
        chosen = [it for it in self._kept if customer_id is None or it[0].customer_id == customer_id]
        chosen.sort(key=lambda it: it[0].detected_at)  # stable
        newest = [
            Alert(record.partition, record.offset, msgspec.Raw(record.value)) for _, record in chosen[: -limit - 1 : -1]
        ]
        return newest, write_vector(self._next)

    async def _follow(self) -> None:
        reader = _Reader(self._kafka, self._topic, self._partitions)
        try:
            await reader.start()
            begin, end = await reader.bounds()
            kept = self._kept.maxlen or 0
            begin_at = self._next or {number: max(begin[number], end[number] - kept) for number in begin}
            reader.seek({number: max(begin[number], offset) for number, offset in begin_at.items()})
            while True:
                for record in await reader.records():
                    if (about := decode_header(record)) is not None:
                        self._kept.append((about, record))
                self._next = await reader.positions()
                if not self._current:
                    self._current = all(self._next[number] >= end[number] for number in end)
        finally:
            await reader.stop()


class _Reader:
    """All partitions of a topic, read committed, without a group."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int) -> None:
        self._tps = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer = committed_reader(
            kafka, auto_offset_reset="none", fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=256 << 10
        )

    async def start(self) -> None:
        """Connect."""
        await self._consumer.start()
        self._consumer.assign(self._tps)

    async def stop(self) -> None:
        """Disconnect. Stopping twice is allowed."""
        await self._consumer.stop()

    async def bounds(self) -> tuple[Vector, Vector]:
        """First and end offsets."""
        begin = await self._consumer.beginning_offsets(self._tps)
        end = await self._consumer.end_offsets(self._tps)
        return {tp.partition: begin[tp] for tp in self._tps}, {tp.partition: end[tp] for tp in self._tps}

    def seek(self, vector: Mapping[int, int]) -> None:
        """Go on from here."""
        for tp in self._tps:
            self._consumer.seek(tp, vector[tp.partition])

    async def records(self) -> list[ConsumerRecord]:
        """What has come, if anything has."""
        found = await self._consumer.getmany(timeout_ms=FETCH_WAIT_MS, max_records=500)
        return [record for records in found.values() for record in records]

    async def positions(self) -> Vector:
        """The next offsets."""
        return {tp.partition: await self._consumer.position(tp) for tp in self._tps}


class AlertStreams:
    """Hands out live streams, a bounded number at a time."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int, max_streams: int) -> None:
        self._kafka, self._topic, self._partitions, self._max_streams = kafka, topic, partitions, max_streams
        self._open: set[AlertStream] = set()
        self._stopped = False

    def stop(self) -> None:
        """End all streams, and begin no more."""
        self._stopped = True
        for stream in self._open:
            stream.stopped = True

    async def open(
        self, last_event_id: str | None, customer_id: int | None, allowed: Callable[[], bool]
    ) -> "AlertStream":
        """Events after that id, or from now on, for as long as `allowed`. ProblemError 400, 410 or 503. The caller closes it."""
        vector = None if last_event_id is None else read_vector(last_event_id, self._partitions)
        if self._stopped or len(self._open) >= self._max_streams:
            raise unavailable("This worker has as many live streams as it may have. Ask another one.", 30)
        stream = AlertStream(_Reader(self._kafka, self._topic, self._partitions), customer_id, allowed, self._closed)
        self._open.add(stream)
        metrics.STREAMS.set(len(self._open))
        try:
            await stream.begin(vector)
        except KafkaError as error:
            await stream.close()
            raise unavailable("Kafka does not answer. Ask again in a moment.", 5) from error
        except BaseException:
            await stream.close()
            raise
        return stream

    def _closed(self, stream: "AlertStream") -> None:
        self._open.discard(stream)
        metrics.STREAMS.set(len(self._open))


class AlertStream:
    """One client's live stream, as server-sent events."""

    def __init__(
        self,
        reader: _Reader,
        customer_id: int | None,
        allowed: Callable[[], bool],
        closed: Callable[["AlertStream"], None],
    ) -> None:
        self._reader, self._customer_id, self._allowed, self._closed = reader, customer_id, allowed, closed
        self._vector: Vector = {}
        self.stopped = False

    async def begin(self, vector: Vector | None) -> None:
        """Connect, and go there; None: to the end. ProblemError when the log does not have that place."""
        await self._reader.start()
        begin, end = await self._reader.bounds()
        self._vector = end if vector is None else vector
        if any(self._vector[number] < begin[number] for number in begin):
            raise ProblemError(HTTPStatus.GONE, EXPIRED)
        if any(self._vector[number] > end[number] for number in end):
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, "Last-Event-ID is beyond the end of the log. Leave it out to begin now."
            )
        self._reader.seek(self._vector)

    async def events(self) -> AsyncIterator[bytes]:
        """The bytes to send. Ends when the worker stops, when the token is no longer good, or the log forgets faster than it reads."""
        loop = asyncio.get_running_loop()
        yield b"retry: 2000\nid: %s\n\n" % self._id
        spoke = loop.time()
        while self._allowed() and not self.stopped:
            try:
                records = await self._reader.records()
            except OffsetOutOfRangeError:
                return  # coming back with its last id the client is told
            for record in records:
                self._vector[record.partition] = record.offset + 1
                about = decode_header(record)
                if about is not None and self._customer_id in (None, about.customer_id):
                    yield b"event: alert\nid: %s\ndata: %s\n\n" % (self._id, record.value)
                    spoke = loop.time()
            if loop.time() - spoke > KEEPALIVE_S:
                yield b": still here\nid: %s\n\n" % self._id
                spoke = loop.time()

    async def close(self) -> None:
        """Disconnect. Closing twice is allowed."""
        self._closed(self)
        await self._reader.stop()

    @property
    def _id(self) -> bytes:
        return write_vector(self._vector).encode()
