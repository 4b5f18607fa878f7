"""Joins a common change of a transaction to its account with one call of the native library."""

import struct
from typing import Final, Literal

import msgspec

from app.native.library import Library

_OPERATIONS: Final[dict[int, Literal["c", "r", "u"]]] = {ord("c"): "c", ord("r"): "r", ord("u"): "u"}
_HEAD: Final = struct.Struct("=8sqq")
_ROOM: Final = 1 << 16


class Joined(msgspec.Struct, frozen=True, gc=False):
    """The result of a change. `record` is the JSON for bank.transactions; its `op` is "updated" if `operation` is "u", else "created"."""

    operation: Literal["c", "r", "u"]
    lsn: int | None
    record: bytes
    digest: bytes
    """The digest of the row, as `app.domain.transaction_join` computes it."""
    transaction_id: int


class Joiner:
    """Calls the library. Not thread-safe: all calls share one result buffer."""

    def __init__(self, library: Library) -> None:
        self._call = library.lib.bank_transaction
        self._out = library.ffi.new("uint8_t[]", _ROOM)
        self._bytes = library.ffi.buffer(self._out)
        self._sources: dict[tuple[str, int], bytes] = {}

    def join(
        self, value: bytes, account_id: int, topic: str, partition: int, offset: int, account: bytes, customer_id: int
    ) -> Joined | None:
        """Join a change. `account` is the JSON of the account's attributes. Returns None if the change is not common."""
        source = self._sources.get((topic, partition))
        if source is None:
            source = b'{"topic":%b,"partition":%d,"offset":' % (msgspec.json.encode(topic), partition)
            self._sources[topic, partition] = source
        done = self._call(
            value,
            len(value),
            account_id,
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
        record = raw[_HEAD.size : _HEAD.size + (done & 0xFFFF_FFFF)]
        return Joined(_OPERATIONS[done >> 32], None if lsn < 0 else lsn, record, digest, transaction_id)
