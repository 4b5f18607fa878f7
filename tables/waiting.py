"""The table of transactions whose account is not known yet. Key: (account_id, partition, offset).

A scan of an account's prefix therefore returns them in the order in which they arrived.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.engine.table import Table
from tables.encoding import number_key

WaitingKey = tuple[int, int, int]


class WaitingRecord(msgspec.Struct, frozen=True, array_like=True):
    """An input record as it arrived. Implements `InputRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


WAITING: Final[Table[WaitingKey, WaitingRecord]] = Table(
    "waiting", lambda key: number_key(*key), msgspec.msgpack.encode, msgspec.msgpack.Decoder(WaitingRecord).decode
)
