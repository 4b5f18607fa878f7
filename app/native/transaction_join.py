"""Reads a change of a transaction and writes its record, joined to its account, with one call of the native library."""

import struct
from typing import Final

import msgspec

from app.domain.changes import Operation, RowChange
from app.domain.transaction_join import Op
from app.native.library import Library

_OPERATIONS: Final[dict[int, Operation]] = {ord("c"): "c", ord("r"): "r", ord("u"): "u"}
_OPS: Final[dict[Op, bytes]] = {"created": b"created", "updated": b"updated", "deleted": b"deleted"}
_HEAD: Final = struct.Struct("=8sqq")
_ROOM: Final = 1 << 16

Place = tuple[str, int, int]
"""Topic, partition and offset of a change in Kafka."""


class Joined(msgspec.Struct, frozen=True, gc=False):
    """A change that was read. `record` is the JSON for bank.transactions, whose `op` the caller decides (`with_op`)."""

    operation: Operation
    lsn: int | None
    record: bytes
    digest: bytes
    """The digest of the row, as `app.domain.transaction_join` computes it."""
    transaction_id: int


class Joiner:
    """Calls the library. Not thread-safe: all calls share one result buffer."""

    def __init__(self, library: Library) -> None:
        self._ffi, self._call = library.ffi, library.lib.bank_transaction
        self._sources: dict[tuple[str, int], bytes] = {}
        self._make_room(_ROOM)

    def join(
        self, value: bytes, account_id: int, place: Place, account: bytes, customer_id: int, *, is_checked: bool = False
    ) -> Joined | None:
        """Join a change that is at this place in Kafka. `account` is the JSON of the account's attributes. Returns None if the change is
        not in the common form. With `is_checked`, the values of its row are not looked at.
        """
        topic, partition, offset = place
        source = self._sources.get((topic, partition))
        if source is None:
            source = b'{"topic":%b,"partition":%d,"offset":' % (msgspec.json.encode(topic), partition)
            self._sources[topic, partition] = source
        done = self._call(
            value, len(value), account_id, is_checked, account, len(account), customer_id, source, len(source), offset, self._out,
            self._room,
        )  # fmt: skip
        if done <= 0:
            if not done:
                return None
            self._make_room(-done)
            return self.join(value, account_id, place, account, customer_id, is_checked=is_checked)
        raw = self._bytes
        digest, transaction_id, lsn = _HEAD.unpack_from(raw)
        record = raw[_HEAD.size : _HEAD.size + (done & 0xFFFF_FFFF)]
        return Joined(_OPERATIONS[done >> 32], None if lsn < 0 else lsn, record, digest, transaction_id)

    def write(self, row: bytes, change: RowChange, place: Place, account: bytes, customer_id: int) -> bytes:
        """Returns the record of a row of a change. `row` has the columns as `app.domain.transaction_join.common_row` writes them."""
        lsn, tx_id = (b"null" if it is None else b"%d" % it for it in (change.lsn, change.tx_id))
        value = b'{"after":%b,"source":{"table":"transactions","lsn":%b,"txId":%b,"ts_us":%d},"op":"c"}' % (
            row, lsn, tx_id, change.commit_us,
        )  # fmt: skip
        joined = self.join(value, 0, place, account, customer_id, is_checked=True)
        assert joined is not None, "the native library does not read a change that Python wrote in the common form"
        return joined.record

    def _make_room(self, room: int) -> None:
        self._out, self._room = self._ffi.new("uint8_t[]", room), room
        self._bytes = self._ffi.buffer(self._out)


def with_op(record: bytes, op: Op) -> bytes:
    """Returns a record with another `op`. All have the same length.

    >>> with_op(b'{"op":"created","transaction_id":7}', "deleted")
    b'{"op":"deleted","transaction_id":7}'
    """
    return record if record.startswith(_OPS[op], 7) else b'{"op":"%b%b' % (_OPS[op], record[14:])
