"""A change of a transaction joined to its account, of the common kind, by one call of the native library."""

import struct
from typing import Final

import msgspec

from app.native.library import Library

READ: Final = ord("r")
UPDATE: Final = ord("u")

_HEAD: Final = struct.Struct("=8sqq")
_ROOM: Final = 1 << 16


class Joined(msgspec.Struct, frozen=True, gc=False):
    """What a change came to. `record` is the JSON for bank.transactions, as of a transaction that is known if `operation` is UPDATE,
    and new otherwise.
    """

    operation: int
    record: bytes
    digest: bytes
    """Of the row, as `app.domain.transactions` makes it."""
    transaction_id: int
    lsn: int
    """Negative: none."""


class Joiner:
    """Not for several threads: what the library answers stands in one place."""

    def __init__(self, library: Library) -> None:
        self._call = library.lib.bank_transaction
        self._out = library.ffi.new("uint8_t[]", _ROOM)
        self._bytes = library.ffi.buffer(self._out)
        self._sources: dict[tuple[str, int], bytes] = {}

    def join(
        self, value: bytes, key: bytes, topic: str, partition: int, offset: int, account: bytes, customer_id: int
    ) -> Joined | None:
        """`account`: the JSON of its attributes. None for a change that is not of the common kind."""
        source = self._sources.get((topic, partition))
        if source is None:
            source = b'{"topic":%b,"partition":%d,"offset":' % (msgspec.json.encode(topic), partition)
            self._sources[topic, partition] = source
        done = self._call(
            value,
            len(value),
            key,
            len(key),
            account,
            len(account),
            customer_id,
            source,
            len(source),
            offset,
            self._out,
            _ROOM,
        )
        if not done:
            return None
        raw = self._bytes
        digest, transaction_id, lsn = _HEAD.unpack_from(raw)
        return Joined(done >> 32, raw[_HEAD.size : _HEAD.size + (done & 0xFFFF_FFFF)], digest, transaction_id, lsn)
