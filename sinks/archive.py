"""Archives a topic partition in the lake: cuts its records into segments and writes them as a chain of objects without gaps or overlaps.

A writer puts only at the end of the chain that it knows, and only if the name is free. If the name is taken, another writer was first:
this writer drops the records in that object and continues after it. Two writers of one partition (a zombie and its successor) therefore
write one chain, and a put that was stored although its reply was lost is recognised as the writer's own.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence

import zstandard

from app.config.settings import LakeSettings
from app.engine.exits import die
from app.engine.unit_of_work import InputRecord
from app.errors import ContinuityError
from sinks import chain, gaps, metrics
from sinks.base import ChainKey, LakeObject, ObjectStore
from sinks.lines import is_large, large_record_line, line_encoder
from sinks.segment import Segment, digest

logger = logging.getLogger(__name__)

YIELD_RECORDS = 200
"""Number of lines after which control returns to the event loop."""


class LakePartition:
    """A sink partition (see sinks/base.py). Holds at most two segments: one being written, one being filled.

    `slots` limits the uploads of the whole worker. `topic_id` returns Kafka's id of the topic. `announce` must not block.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        store: ObjectStore,
        topic_id: Callable[[], Awaitable[str]],
        announce: Callable[[LakeObject], None],
        settings: LakeSettings,
        slots: asyncio.Semaphore,
        fail: Callable[[BaseException, str], None] = die,
    ) -> None:
        self._topic, self._partition = topic, partition
        self._store, self._topic_id, self._announce = store, topic_id, announce
        self._settings, self._slots, self._fail = settings, slots, fail
        self._line = line_encoder(topic, partition)
        self._key = ChainKey(topic, "", partition)
        self._tail: LakeObject | None = None
        self._segment: Segment | None = None
        self._begun, self._full, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> int | None:
        """The offset after the last object; None if there is no object."""
        return None if self._tail is None else self._tail.last_offset + 1

    @property
    def topic_id(self) -> uuid.UUID | None:
        """The id of the topic that this chain belongs to; None before `open`."""
        return uuid.UUID(self._key.topic_id) if self._key.topic_id else None

    async def open(self) -> int | None:
        """Find the newest object and return the offset to continue at: after it, or after an accepted gap; None for an empty chain.

        Announces the object again, because its writer may have died before the announcement.
        """
        self._key = self._key._replace(topic_id=await self._topic_id())
        self._tail = await chain.newest(self._store, self._key)
        if self._tail is not None:
            self._announce(self._tail)
        begins = None if self.position is None else await gaps.resume_offset(self._store, self._key, self.position)
        await self._alarm()
        self._task = asyncio.create_task(self._run(), name=f"lake/{self._topic}/{self._partition}")
        return begins

    async def process(self, records: Sequence[InputRecord]) -> None:
        """Add the records to the segment. Waits while it is full and the previous one is not written yet."""
        for begin in range(0, len(records), YIELD_RECORDS):
            for record in records[begin : begin + YIELD_RECORDS]:
                await self._add(record)
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop. A running upload may or may not be stored; the next owner reads that from the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _alarm(self) -> None:
        """Log and count every earlier topic of this name whose end may be missing in the lake and has no accepted gap."""
        for topic_id in await self._store.children(f"{self._topic}/"):
            key = self._key._replace(topic_id=topic_id)
            last = None if key == self._key else await chain.newest(self._store, key)
            if last is None:
                continue
            begins = await gaps.resume_offset(self._store, key, last.last_offset + 1)
            if await gaps.find(self._store, "lake", key, begins) is None:
                metrics.ABANDONED_CHAINS.labels(self._topic).inc()
                logger.critical(
                    "topic %s was recreated: the chain of %s/%d with id %s ends with offset %d, and later records of that topic are "
                    "not in the lake. A new chain is written for id %s. `bankstream doctor` says what to do.",
                    self._topic, self._topic, self._partition, topic_id, begins - 1, self._key.topic_id,
                )  # fmt: skip

    async def _add(self, record: InputRecord) -> None:
        line = await self._aside(record) if is_large(record) else self._line(record)
        while self._full.is_set():
            await self._room.wait()
        segment = self._segment
        if segment is None:
            deadline = asyncio.get_running_loop().time() + self._settings.max_age_ms / 1000
            segment = self._segment = Segment(self._settings.compression_level, deadline)
            self._begun.set()
        segment.add(record.offset, line)
        if len(segment.offsets) >= self._settings.max_rows or segment.size >= self._settings.max_bytes:
            self._room.clear()
            self._full.set()

    async def _aside(self, record: InputRecord) -> bytes:
        """Put a large record into its own object. Every writer puts the same content there."""
        name = f"large/{chain.folder(self._key)}{record.offset:0{chain.WIDTH}d}.json.zst"
        line, content = large_record_line(record, name)
        await self._store.put(name, zstandard.compress(content), {})
        return line

    async def _run(self) -> None:
        try:
            while True:
                await self._due()
                async with self._slots:
                    segment, self._segment = self._segment, None
                    assert segment is not None, "_due returns when there is one"
                    self._begun.clear()
                    self._full.clear()
                    self._room.set()
                    await self._write(segment)
        except Exception as error:  # noqa: BLE001 - after any error nothing more of this partition may be written
            self._fail(error, f"lake {self._topic}/{self._partition}, from offset {self.position}")

    async def _due(self) -> None:
        """Wait until a segment is full or has reached its maximum age."""
        await self._begun.wait()
        assert self._segment is not None, "set together"
        try:
            async with asyncio.timeout_at(self._segment.deadline):
                await self._full.wait()
        except TimeoutError:
            pass

    async def _write(self, segment: Segment) -> None:
        """Write until every record of the segment is in the lake, put there by this writer or by another."""
        while (rest := segment.after(-1 if self._tail is None else self._tail.last_offset)).offsets:
            segment = rest
            ours = self._next(segment)
            with metrics.UPLOAD_SECONDS.labels(self._topic).time():
                stored = await self._store.put(ours.object, segment.body(), chain.metadata(ours))
            self._tail = ours if stored else await self._taken(ours)
            self._announce(self._tail)
            if self._tail.sha256 == ours.sha256:
                metrics.LAST_OBJECT_TIME.labels(self._topic).set_to_current_time()
                metrics.OBJECTS.labels(self._topic).inc()
                metrics.ROWS.labels(self._topic).inc(ours.rows)
                metrics.BYTES.labels(self._topic).inc(ours.bytes)

    def _next(self, segment: Segment) -> LakeObject:
        """Returns the object that this segment becomes at the end of the chain."""
        last, sha256 = (-1, "") if self._tail is None else (self._tail.last_offset, self._tail.sha256)
        body = segment.body()
        return LakeObject(
            object=chain.name(self._key, last + 1),
            topic=self._topic,
            partition=self._partition,
            first_offset=segment.offsets[0],
            last_offset=segment.offsets[-1],
            rows=len(segment.offsets),
            bytes=len(body),
            sha256=digest(body),
            previous_last_offset=last,
            previous_sha256=sha256,
        )

    async def _taken(self, ours: LakeObject) -> LakeObject:
        """Returns the object that has taken the name. Raises ContinuityError if it is missing or does not continue the chain."""
        metrics.TAKEN.labels(self._topic).inc()
        stat = await self._store.stat(ours.object)
        if stat is None:
            raise ContinuityError(f"lake object {ours.object} existed and is missing. Objects must never be removed.")
        found = chain.parse_metadata(ours.object, stat)
        if not chain.follows(found, ours.previous_last_offset, ours.previous_sha256):
            raise ContinuityError(
                f"lake object {ours.object} follows an object with the hash {found.previous_sha256}, but the one before it has "
                f"{ours.previous_sha256}: the chain was tampered with. Compare the objects around it."
            )
        return found
