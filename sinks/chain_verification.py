"""Reads a chain from its first object to its last and verifies every object."""

from collections.abc import AsyncIterator

from app.errors import ContinuityError
from sinks import chain, lines
from sinks.base import ChainKey, LakeObject, ObjectStore
from sinks.segment import digest
from sinks.segment import lines as split


async def verify_chain(
    store: ObjectStore, key: ChainKey, behind: LakeObject | None = None
) -> AsyncIterator[tuple[LakeObject, list[lines.Line]]]:
    """Yields each object of a chain with its lines, in order. With `behind`, an object that was audited before, starts after it.

    Raises ContinuityError at the first object that does not follow its predecessor, or that differs from its metadata: another hash,
    another number of rows, an offset outside its range or out of order.
    """
    last, sha256, after = (-1, "", "") if behind is None else (behind.last_offset, behind.sha256, behind.object)
    while page := await store.names(chain.folder(key), after=after):
        for name in page:
            stat = await store.stat(name)
            if stat is None:
                raise ContinuityError(f"lake object {name} was listed, but is missing")
            found = chain.parse_metadata(name, stat)
            if not chain.follows(found, last, sha256):
                raise ContinuityError(f"lake object {name} follows {found.previous_last_offset}, not {last}")
            yield found, verified_lines(found, await store.get(name))
            last, sha256, after = found.last_offset, found.sha256, name


def verified_lines(found: LakeObject, body: bytes) -> list[lines.Line]:
    """Returns the lines of an object's content. Raises ContinuityError if the content differs from the object's metadata."""
    if digest(body) != found.sha256:
        raise ContinuityError(f"lake object {found.object} is not the one that was written: its hash differs")
    rows = [lines.read(line) for line in split(body)]
    offsets = [row.offset for row in rows]
    if (
        len(rows) != found.rows
        or offsets != sorted(set(offsets))
        or (offsets[0], offsets[-1]) != (found.first_offset, found.last_offset)
        or {(row.topic, row.partition) for row in rows} != {(found.topic, found.partition)}
    ):
        raise ContinuityError(f"lake object {found.object} has other records than its metadata says")
    return rows
