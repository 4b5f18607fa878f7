"""A position as the `positions` table has it: which topic it is about, by Kafka's id, and the next offset to process."""

import struct
import uuid
from typing import Final, NamedTuple

from app.errors import ContinuityError

_LAYOUT: Final = struct.Struct(">Q16s")

CHANGELOG: Final = b"changelog:"
"""Prefix of the keys under which the ids of the group's changelogs are kept. No topic's name has a colon."""


class Position(NamedTuple):
    """`offset` is the next one to process of the topic that had the id `topic_id`. A topic made anew under the same name has another."""

    offset: int
    topic_id: uuid.UUID


def encode(position: Position) -> bytes:
    """The table's value.

    >>> decode(encode(Position(7, uuid.UUID(int=1)))).offset
    7
    """
    return _LAYOUT.pack(position.offset, position.topic_id.bytes)


def decode(raw: bytes) -> Position:
    """The position in a value of the table. ContinuityError for anything else."""
    if len(raw) != _LAYOUT.size:
        raise ContinuityError(
            f"a position of {len(raw)} bytes was not written by this version, which needs the topic's id in it. Rebuild the state: "
            "docs/DOCTOR.md says how."
        )
    offset, topic_id = _LAYOUT.unpack(raw)
    return Position(offset, uuid.UUID(bytes=topic_id))
