"""Serves alerts from the committed log: recent ones, which every worker keeps in memory, and live streams, each with its own reader.

A position in the log is a vector of offsets, one for each partition: "0:119,1:87". It is the id of every event of a stream. A client that
reconnects with its last id, to any worker, gets every later alert exactly once.
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
    "These events are no longer in the log. Read /v1/alerts, or the warehouse, and start a new stream from now."
)

_VECTOR: Final = re.compile(r"\d{1,6}:\d{1,18}(?:,\d{1,6}:\d{1,18})*", re.ASCII)

Vector = dict[int, int]
"""By partition, the next offset to read."""


def write_vector(vector: Mapping[int, int]) -> str:
    """Returns a vector as the id of an event.

    >>> write_vector({1: 87, 0: 119})
    '0:119,1:87'
    """
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(vector.items()))


def read_vector(text: str, partitions: int) -> Vector:
    """Returns the vector of an event id. Raises ProblemError 400 if the id is not one of this topic."""
    vector: Vector = {}
    if _VECTOR.fullmatch(text):
        pairs = [pair.split(":") for pair in text.split(",")]
        vector = {int(partition): int(offset) for partition, offset in pairs}
        if len(vector) == len(pairs) and vector.keys() == set(range(partitions)):
            return vector
    raise ProblemError(
        HTTPStatus.BAD_REQUEST, "Last-Event-ID is not the id of an event of this stream. Omit it to start from now."
    )


class _About(msgspec.Struct, frozen=True):
    """The fields by which alerts are filtered and sorted."""

    customer_id: int
    detected_at: str


_about: Final = msgspec.json.Decoder(_About)


def decode_header(record: ConsumerRecord) -> _About | None:
    """Returns the fields for filtering and sorting. A record that is not a valid alert is logged, and gives None.

    Only the streams workers write to this topic.
    """
    try:
        return _about.decode(record.value)
    except (msgspec.MsgspecError, TypeError):
        logger.warning("%s/%d offset %d is not a valid alert", record.topic, record.partition, record.offset)
        return None


class RecentAlerts:
    """The most recent alerts of all partitions. `run` keeps them up to date until it is cancelled."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int, kept: int) -> None:
        self._kafka, self._topic, self._partitions = kafka, topic, partitions
        self._kept: deque[tuple[_About, ConsumerRecord]] = deque(maxlen=kept)
        self._next: Vector = {}
        self._current = False

    async def run(self) -> None:
        """Read until cancelled, and reconnect after an error. Meanwhile, requests are answered from memory."""
        failures = 0
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                pause = RETRY_PAUSES_S[min(failures, len(RETRY_PAUSES_S) - 1)]
                failures += 1
                logger.warning("recent alerts cannot be read (%s), trying again in %s s", discreet(error), pause)
                await asyncio.sleep(pause)

    def newest(self, limit: int, customer_id: int | None) -> tuple[list[Alert], str]:
        """Returns the newest alerts first, and the event id for a stream that continues after them.

        Raises ProblemError 503 until the first read has reached the end of the log.
        """
        if not self._current:
            raise unavailable("The recent alerts are still being read. Try again in a moment.")
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
    """Reads all partitions of a topic, committed records only, without a consumer group."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int) -> None:
        self._tps = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer = committed_reader(
            kafka, auto_offset_reset="none", fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=256 << 10
        )

    async def start(self) -> None:
        """Connect and assign all partitions."""
        await self._consumer.start()
        self._consumer.assign(self._tps)

    async def stop(self) -> None:
        """Disconnect. May be called twice."""
        await self._consumer.stop()

    async def bounds(self) -> tuple[Vector, Vector]:
        """Returns the first offsets and the end offsets."""
        begin = await self._consumer.beginning_offsets(self._tps)
        end = await self._consumer.end_offsets(self._tps)
        return {tp.partition: begin[tp] for tp in self._tps}, {tp.partition: end[tp] for tp in self._tps}

    def seek(self, vector: Mapping[int, int]) -> None:
        """Continue from these offsets."""
        for tp in self._tps:
            self._consumer.seek(tp, vector[tp.partition])

    async def records(self) -> list[ConsumerRecord]:
        """Returns the records that arrive within FETCH_WAIT_MS, if any."""
        found = await self._consumer.getmany(timeout_ms=FETCH_WAIT_MS, max_records=500)
        return [record for records in found.values() for record in records]

    async def positions(self) -> Vector:
        """Returns the next offsets to read."""
        return {tp.partition: await self._consumer.position(tp) for tp in self._tps}


class AlertStreams:
    """Opens live streams, at most `max_streams` at a time."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: int, max_streams: int) -> None:
        self._kafka, self._topic, self._partitions, self._max_streams = kafka, topic, partitions, max_streams
        self._open: set[AlertStream] = set()
        self._stopped = False

    def stop(self) -> None:
        """End all streams and open no new ones."""
        self._stopped = True
        for stream in self._open:
            stream.stopped = True

    async def open(
        self, last_event_id: str | None, customer_id: int | None, allowed: Callable[[], bool]
    ) -> "AlertStream":
        """Opens a stream of the events after `last_event_id`, or from now on. It ends when `allowed` returns False.

        The caller closes it. Raises ProblemError 400, 410 or 503.
        """
        vector = None if last_event_id is None else read_vector(last_event_id, self._partitions)
        if self._stopped or len(self._open) >= self._max_streams:
            raise unavailable("This worker has reached its limit of live streams. Try another worker.", 30)
        stream = AlertStream(_Reader(self._kafka, self._topic, self._partitions), customer_id, allowed, self._closed)
        self._open.add(stream)
        metrics.STREAMS.set(len(self._open))
        try:
            await stream.begin(vector)
        except KafkaError as error:
            await stream.close()
            raise unavailable("Kafka does not answer. Try again in a moment.", 5) from error
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
        """Connect and seek to the vector; None seeks to the end. Raises ProblemError if the log does not have these offsets."""
        await self._reader.start()
        begin, end = await self._reader.bounds()
        self._vector = end if vector is None else vector
        if any(self._vector[number] < begin[number] for number in begin):
            raise ProblemError(HTTPStatus.GONE, EXPIRED)
        if any(self._vector[number] > end[number] for number in end):
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, "Last-Event-ID is beyond the end of the log. Omit it to start from now."
            )
        self._reader.seek(self._vector)

    async def events(self) -> AsyncIterator[bytes]:
        """Yields the bytes to send.

        Ends when the worker stops, when the token is no longer accepted, or when the log deletes records before they are read.
        """
        loop = asyncio.get_running_loop()
        yield b"retry: 2000\nid: %s\n\n" % self._id
        spoke = loop.time()
        while self._allowed() and not self.stopped:
            try:
                records = await self._reader.records()
            except OffsetOutOfRangeError:
                return  # when the client reconnects with its last id, it gets 410
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
        """Disconnect. May be called twice."""
        self._closed(self)
        await self._reader.stop()

    @property
    def _id(self) -> bytes:
        return write_vector(self._vector).encode()
