"""Chains of objects in a store: how they are named, what their metadata say, where a chain ends, and what comes next in it."""

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
    """The prefix of all names of a chain.

    >>> folder(ChainKey("bank.alerts", "5f0c", 3))
    'bank.alerts/5f0c/3/'
    """
    return f"{key.topic}/{key.topic_id}/{key.partition}/"


def name(key: ChainKey, start: int) -> str:
    """The name of the object that begins at offset `start`. There can be only one, however a writer cuts."""
    return f"{folder(key)}{start:0{WIDTH}d}{SUFFIX}"


def parse(object_name: str) -> tuple[ChainKey, int]:
    """Chain and start of a name. ValueError if it is no name of the lake."""
    match = _NAME.fullmatch(object_name)
    if match is None:
        raise ValueError(f"{object_name!r} is no object of the lake")
    return ChainKey(match[1], match[2], int(match[3])), int(match[4])


def metadata(found: LakeObject) -> dict[str, str]:
    """What is stored beside the content."""
    return {
        "first-offset": str(found.first_offset),
        "last-offset": str(found.last_offset),
        "rows": str(found.rows),
        "sha256": found.sha256,
        "previous-last-offset": str(found.previous_last_offset),
        "previous-sha256": found.previous_sha256,
    }


def parse_metadata(object_name: str, stat: ObjectStat) -> LakeObject:
    """The object that a store's answer is about. ContinuityError if it cannot be one of ours."""
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
        raise ContinuityError(f"lake object {object_name} contradicts itself: {stored}")
    return found


def follows(found: LakeObject, last_offset: int, last_sha256: str) -> bool:
    """Whether an object is the next in a chain that ends so."""
    return (found.previous_last_offset, found.previous_sha256) == (last_offset, last_sha256)


async def chains(store: ObjectStore, topic: str) -> list[ChainKey]:
    """Every chain of a topic, of all topic ids it has had."""
    return [
        ChainKey(topic, topic_id, int(number))
        for topic_id in await store.children(f"{topic}/")
        for number in await store.children(f"{topic}/{topic_id}/")
        if number.isdecimal()
    ]


async def newest(store: ObjectStore, key: ChainKey) -> LakeObject | None:
    """The last object of a chain, None if there is none. About 2 log2(objects) small requests once they fill more than a page."""
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
            f"lake object {last} was listed and then gone. Objects of the lake must never be removed."
        )
    return parse_metadata(last, stat)


async def _search(store: ObjectStore, key: ChainKey, known: str) -> str:
    """The last name from `known` on. Each question is: which name comes next behind this offset? Strides grow until none does."""
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
    """The object whose range has this offset; None if the chain ends before it. A few small requests.

    An object has at least one offset, so a page of names reaches back over at least as many offsets as it has names.
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
