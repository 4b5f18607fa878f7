"""Names the objects of a chain, reads and writes their metadata, and finds objects in a chain."""

import re
from collections.abc import Mapping
from typing import Final

from app.errors import ContinuityError
from sinks.base import ChainKey, LakeObject, ObjectStat, ObjectStore
from sinks.segment import SUFFIX

WIDTH: Final = 20
PAGE: Final = 1_000
_NAME: Final = re.compile(r"([A-Za-z0-9._-]+)/([A-Za-z0-9-]+)/(\d+)/(\d{20})\.ndjson\.zst")


def folder(key: ChainKey) -> str:
    """Returns the prefix of all names of a chain.

    >>> folder(ChainKey("bank.alerts", "5f0c", 3))
    'bank.alerts/5f0c/3/'
    """
    return f"{key.topic}/{key.topic_id}/{key.partition}/"


def name(key: ChainKey, start: int) -> str:
    """Returns the name of the object that begins at offset `start`. It does not depend on where the object ends."""
    return f"{folder(key)}{start:0{WIDTH}d}{SUFFIX}"


def parse(object_name: str) -> tuple[ChainKey, int]:
    """Returns the chain and start offset of a name. Raises ValueError if it is not the name of a lake object."""
    match = _NAME.fullmatch(object_name)
    if match is None:
        raise ValueError(f"{object_name!r} is not the name of a lake object")
    return ChainKey(match[1], match[2], int(match[3])), int(match[4])


def metadata(found: LakeObject) -> dict[str, str]:
    """Returns the metadata that is stored with the content."""
    return {
        "first-offset": str(found.first_offset),
        "last-offset": str(found.last_offset),
        "rows": str(found.rows),
        "sha256": found.sha256,
        "previous-last-offset": str(found.previous_last_offset),
        "previous-sha256": found.previous_sha256,
    }


def parse_metadata(object_name: str, stat: ObjectStat) -> LakeObject:
    """Returns the object that a name and its metadata describe. Raises ContinuityError if they are not valid for a lake object."""
    try:
        key, start = parse(object_name)
        stored: Mapping[str, str] = stat.metadata
        found = LakeObject(
            object=object_name,
            topic=key.topic,
            partition=key.partition,
            first_offset=int(stored["first-offset"]),
            last_offset=int(stored["last-offset"]),
            rows=int(stored["rows"]),
            bytes=stat.size,
            sha256=stored["sha256"],
            previous_last_offset=int(stored["previous-last-offset"]),
            previous_sha256=stored.get("previous-sha256", ""),
        )
    except (KeyError, ValueError) as error:
        raise ContinuityError(
            f"lake object {object_name} was not written by this application, or lost its metadata: {error!r}. Move it away."
        ) from None
    if not start == found.previous_last_offset + 1 <= found.first_offset <= found.last_offset:
        raise ContinuityError(f"lake object {object_name} has inconsistent metadata: {stored}")
    return found


def follows(found: LakeObject, last_offset: int, last_sha256: str) -> bool:
    """Returns whether an object is the next one in a chain that ends with this offset and hash."""
    return (found.previous_last_offset, found.previous_sha256) == (last_offset, last_sha256)


async def chains(store: ObjectStore, topic: str) -> list[ChainKey]:
    """Returns every chain of a topic, of all topic ids that it has had."""
    return [
        ChainKey(topic, topic_id, int(number))
        for topic_id in await store.children(f"{topic}/")
        for number in await store.children(f"{topic}/{topic_id}/")
        if number.isdecimal()
    ]


async def newest(store: ObjectStore, key: ChainKey) -> LakeObject | None:
    """Returns the last object of a chain; None if there is none. Needs about 2 log2(objects) small requests if they exceed a page."""
    prefix = folder(key)
    page = await store.names(prefix, limit=PAGE)
    if not page:
        return None
    last = page[-1]
    if len(page) == PAGE:
        last = await _search(store, key, last)
    stat = await store.stat(last)
    if stat is None:
        raise ContinuityError(
            f"lake object {last} was listed, but is missing. Objects of the lake must never be removed."
        )
    return parse_metadata(last, stat)


async def _search(store: ObjectStore, key: ChainKey, known: str) -> str:
    """Returns the last name from `known` on. Asks for the next name after an offset, with growing strides, then bisects."""
    start, stride, clear = parse(known)[1], PAGE, None  # no object begins behind `clear`
    while clear is None or clear > start:
        probe = start + stride if clear is None else (start + clear) // 2
        answer = await store.names(folder(key), after=name(key, probe), limit=1)
        if answer:
            known, start, stride = answer[0], parse(answer[0])[1], stride * 2
        else:
            clear = probe
    return known


async def find_containing(store: ObjectStore, key: ChainKey, offset: int) -> LakeObject | None:
    """Returns the object whose range includes this offset; None if the chain ends before it. Needs a few small requests.

    An object has at least one offset, so the objects that begin within the PAGE offsets before `offset` fit into about one page.
    """
    wanted, reach = name(key, offset), PAGE
    found = None
    while found is None:
        after = name(key, offset - reach) if reach <= offset else ""
        while page := await store.names(folder(key), after=after, limit=PAGE):
            before = [one for one in page if one <= wanted]
            if before:
                found = after = before[-1]
            if len(before) < PAGE:
                break
        if reach > offset:
            break
        reach *= 4
    stat = None if found is None else await store.stat(found)
    if found is None or stat is None:
        return None
    held = parse_metadata(found, stat)
    return held if offset <= held.last_offset else None
