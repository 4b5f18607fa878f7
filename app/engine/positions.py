"""Encodes and decodes a position of the `positions` table: Kafka's topic id and the next offset to process."""

import struct
import uuid
from typing import Final, NamedTuple

from app.errors import ContinuityError

_LAYOUT: Final = struct.Struct(">Q16s")

CHANGELOG: Final = b"changelog:"
"""Prefix of the keys that hold the topic ids of the group's changelogs. A topic name cannot contain a colon, so no key clashes."""


class Position(NamedTuple):
    """`offset` is the next one to process, in the topic with the id `topic_id`. A topic recreated under the same name has another id."""

    offset: int
    topic_id: uuid.UUID


def encode(position: Position) -> bytes:
    """Returns the table's value for a position.

    >>> decode(encode(Position(7, uuid.UUID(int=1)))).offset
    7
    """
    return _LAYOUT.pack(position.offset, position.topic_id.bytes)


def decode(raw: bytes) -> Position:
    """Returns the position in a value of the table. Raises ContinuityError if the value is not a position."""
    if len(raw) != _LAYOUT.size:
        raise ContinuityError(
            f"a position of {len(raw)} bytes was not written by this version, which needs the topic's id in it. Rebuild the state: "
            "docs/DOCTOR.md says how."
        )
    offset, topic_id = _LAYOUT.unpack(raw)
    return Position(offset, uuid.UUID(bytes=topic_id))
