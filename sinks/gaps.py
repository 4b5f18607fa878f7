"""Gaps that somebody has accepted, as objects of the lake: what is missing, why, and who decided to go on.

The lake is the durable record, so it also says what it does not have. Each gap is an object of its own under `gaps/`, named after where it
begins, so that it can be there once only; it is never changed.
"""

import re
from typing import Final, Literal

import msgspec

from sinks.base import ChainKey, ObjectStore
from sinks.chain import PAGE, WIDTH

FOLDER: Final = "gaps/"

Worker = Literal["streams", "lake", "capture"]


class GapRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was lost and where it goes on.

    Of a topic partition: offsets `first` to `last` of the topic with the id `topic_id`; `last` None: whatever that topic had behind
    `first` when it was deleted. Processing goes on with `resumes_at` of the topic with the id `resumes_topic_id`. Of capture: `topic` is
    the slot, and the numbers are positions in PostgreSQL's log, of which those between `first` and `last` are missing.
    """

    worker: Worker
    topic: str
    topic_id: str = msgspec.field(name="incarnation")
    partition: int
    first: int
    last: int | None
    resumes_topic_id: str = msgspec.field(name="resumes_incarnation")
    resumes_at: int
    reason: str
    accepted_by: str
    accepted_at: str

    @property
    def name(self) -> str:
        """The object."""
        return name(self.worker, ChainKey(self.topic, self.topic_id, self.partition), self.first)


_decoder: Final = msgspec.json.Decoder(GapRecord)
_NAME: Final = re.compile(r"gaps/[a-z]+/[A-Za-z0-9._-]+/[A-Za-z0-9-]+/\d+/\d{20}\.json")


def name(worker: Worker, key: ChainKey, first: int) -> str:
    """The object of a gap.

    >>> name("lake", ChainKey("bank.alerts", "5f0c", 3), 7)
    'gaps/lake/bank.alerts/5f0c/3/00000000000000000007.json'
    """
    return f"{FOLDER}{worker}/{key.topic}/{key.topic_id}/{key.partition}/{first:0{WIDTH}d}.json"


async def write(store: ObjectStore, gap: GapRecord) -> GapRecord:
    """Write a gap down; answers what is written, which is what an earlier call wrote if there was one."""
    await store.put(gap.name, msgspec.json.encode(gap), {})
    return _decoder.decode(await store.get(gap.name))


async def find(store: ObjectStore, worker: Worker, key: ChainKey, first: int) -> GapRecord | None:
    """The gap that begins there, if it was accepted."""
    wanted = name(worker, key, first)
    return None if await store.stat(wanted) is None else _decoder.decode(await store.get(wanted))


async def resume_offset(store: ObjectStore, key: ChainKey, position: int) -> int:
    """Where the lake goes on with a chain of which it has everything below `position`: there, or behind gaps that were accepted."""
    while (gap := await find(store, "lake", key, position)) is not None and gap.resumes_topic_id == key.topic_id:
        position = gap.resumes_at
    return position


async def gaps(store: ObjectStore) -> list[GapRecord]:
    """All of them."""
    found: list[GapRecord] = []
    after = ""
    while page := await store.names(FOLDER, after=after, limit=PAGE):
        found += [_decoder.decode(await store.get(one)) for one in page if _NAME.fullmatch(one)]
        after = page[-1]
    return found
