"""Reads and writes accepted gaps as objects of the lake: which records are missing, why, and who accepted that.

The lake is the durable record, so it also records what is missing from it. Each gap is an immutable object under `gaps/`. Its name contains
the offset at which it begins, so that it can exist only once.
"""

import re
from typing import Final, Literal

import msgspec

from sinks.base import ChainKey, ObjectStore
from sinks.chain import PAGE, WIDTH

FOLDER: Final = "gaps/"

Worker = Literal["streams", "lake", "capture"]


class GapRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The lost records, and the offset at which processing continues.

    For a topic partition, the offsets `first` to `last` of the topic with the id `topic_id` are lost. `last` None means all offsets from
    `first` to the end of a deleted topic. Processing continues at `resumes_at` of the topic with the id `resumes_topic_id`. For capture,
    `topic` is the replication slot and the numbers are LSNs; the changes between `first` and `last` are lost.
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
        """The name of the gap's object."""
        return name(self.worker, ChainKey(self.topic, self.topic_id, self.partition), self.first)


_decoder: Final = msgspec.json.Decoder(GapRecord)
_NAME: Final = re.compile(r"gaps/[a-z]+/[A-Za-z0-9._-]+/[A-Za-z0-9-]+/\d+/\d{20}\.json")


def name(worker: Worker, key: ChainKey, first: int) -> str:
    """Returns the name of a gap's object.

    >>> name("lake", ChainKey("bank.alerts", "5f0c", 3), 7)
    'gaps/lake/bank.alerts/5f0c/3/00000000000000000007.json'
    """
    return f"{FOLDER}{worker}/{key.topic}/{key.topic_id}/{key.partition}/{first:0{WIDTH}d}.json"


async def write(store: ObjectStore, gap: GapRecord) -> GapRecord:
    """Store a gap and return the stored one, which is an earlier one if it exists."""
    await store.put(gap.name, msgspec.json.encode(gap), {})
    return _decoder.decode(await store.get(gap.name))


async def find(store: ObjectStore, worker: Worker, key: ChainKey, first: int) -> GapRecord | None:
    """Returns the accepted gap that begins at `first`; None if there is none."""
    wanted = name(worker, key, first)
    return None if await store.stat(wanted) is None else _decoder.decode(await store.get(wanted))


async def resume_offset(store: ObjectStore, key: ChainKey, position: int) -> int:
    """Returns the offset at which a chain that is complete below `position` continues: `position`, or the end of accepted gaps there."""
    while (gap := await find(store, "lake", key, position)) is not None and gap.resumes_topic_id == key.topic_id:
        position = gap.resumes_at
    return position


async def gaps(store: ObjectStore) -> list[GapRecord]:
    """Returns all accepted gaps."""
    found: list[GapRecord] = []
    after = ""
    while page := await store.names(FOLDER, after=after, limit=PAGE):
        found += [_decoder.decode(await store.get(one)) for one in page if _NAME.fullmatch(one)]
        after = page[-1]
    return found
