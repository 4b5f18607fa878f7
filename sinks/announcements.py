"""Sends and reads announcements of lake objects. They are hints: correctness does not depend on them."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings
from app.engine.kafka import connection
from app.engine.unit_of_work import InputRecord
from sinks import metrics
from sinks.base import ChainKey, LakeObject
from sinks.loader import Loader

logger = logging.getLogger(__name__)

MAX_UNSENT = 1_000
"""Limit of announcements in memory while Kafka is unavailable. Further ones are dropped; their objects are found by listing."""

STOP_TIMEOUT_S = 5

_decoder = msgspec.json.Decoder(LakeObject)


def announcement_key(topic: str, partition: int) -> bytes:
    """Returns the key of an announcement, which keeps those of one partition in order.

    >>> announcement_key("bank.alerts", 3)
    b'bank.alerts/3'
    """
    return f"{topic}/{partition}".encode()


class Announcer:
    """Sends announcements in a background task."""

    def __init__(self, topic: str, kafka: KafkaSettings) -> None:
        self._topic, self._kafka = topic, kafka
        self._queue: asyncio.Queue[LakeObject] = asyncio.Queue(MAX_UNSENT)
        self._task: asyncio.Task[None] | None = None

    def announce(self, found: LakeObject) -> None:
        """Queue an announcement without waiting. It may be dropped."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="announcer")
        try:
            self._queue.put_nowait(found)
        except asyncio.QueueFull:
            metrics.ANNOUNCEMENTS_DROPPED.inc()

    async def close(self) -> None:
        """Stop. Queued announcements are dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        producer = AIOKafkaProducer(**connection(self._kafka), enable_idempotence=True, linger_ms=5)
        try:
            await producer.start()
            while True:
                found = await self._queue.get()
                sent = await producer.send(
                    self._topic, key=announcement_key(found.topic, found.partition), value=msgspec.json.encode(found)
                )
                sent.add_done_callback(_note)
        except Exception as error:  # noqa: BLE001 - a failed announcement must never stop a worker
            logger.warning("announcements stop until the next object: %r", error)
            metrics.ANNOUNCEMENTS_DROPPED.inc()
            self._task = None
        finally:
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await producer.stop()


def _note(sent: "asyncio.Future[Any]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        metrics.ANNOUNCEMENTS_DROPPED.inc()


class AnnouncementPartition:
    """A partition of the announcements, as a sink partition. It starts at the end of the log; earlier objects are found by listing.

    `end` returns the end offset of the partition. `opened` and `closed` are called when the partition is opened and closed.
    """

    def __init__(
        self,
        loader: Loader,
        end: Callable[[], Awaitable[int]],
        *,
        opened: Callable[[], None] = lambda: None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._loader, self._end, self._opened, self._closed = loader, end, opened, closed
        self._taken: int | None = None
        self._outstanding: deque[tuple[int, ChainKey, int]] = deque()

    @property
    def position(self) -> int | None:
        """The offset of the first hint whose object is not loaded yet."""
        while self._outstanding and self._loader.is_loaded(self._outstanding[0][1], self._outstanding[0][2]):
            self._outstanding.popleft()
        return self._outstanding[0][0] if self._outstanding else self._taken

    @property
    def topic_id(self) -> None:
        """None, which accepts any topic of this name: the object of a lost hint is found by listing."""
        return None

    async def open(self) -> int:
        """Returns the end offset, which is read before the lake is listed, so that the listing includes objects announced earlier."""
        self._taken = await self._end()
        self._opened()
        self._loader.request_sweep()
        return self._taken

    async def process(self, records: Sequence[InputRecord]) -> None:
        """Pass the hints to the loader. An unreadable record is logged and ignored."""
        for record in records:
            try:
                found = _decoder.decode(record.value or b"")
            except msgspec.MsgspecError as error:
                logger.warning("offset %d of the announcements is unreadable: %s", record.offset, error)
                continue
            key = self._loader.on_announcement(found)
            if key is not None:
                self._outstanding.append((record.offset, key, found.last_offset))
        self._taken = records[-1].offset + 1
        await self._loader.wait_for_room()

    async def close(self) -> None:
        """Report that the partition is closed."""
        self._closed()
