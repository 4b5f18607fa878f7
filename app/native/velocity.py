"""Applies a record of bank.transactions to its customer's history with one call of the native library."""

import struct
from typing import Final

import msgspec

from app.native.history import NativeHistory, Rules

UNSEEN, QUIET, CONCERNED, UNKNOWN = range(4)
"""What the rules have to do with a record: nothing; no prefilter matches, so no rule fires; they must be evaluated; they must not,
because the rules that have fired on the transaction are not known."""

_HEAD: Final = struct.Struct("=qIIII")
"""`bank_screened` of bank.h, without its keys."""
_KEY_BYTES: Final = 32
_ROOM: Final = 1 << 16


class Screened(msgspec.Struct, frozen=True, gc=False):
    """The result of a record: the bytes to store and emit. `look` is UNSEEN, QUIET, CONCERNED or UNKNOWN."""

    look: int
    lsn: int | None
    velocity: bytes
    """The record for bank.velocity; empty: none."""
    key: bytes
    facts: bytes
    """The stored key and value of the event; no facts: there is nothing to store."""
    gone: bytes
    """The stored key of an event to delete; empty: none."""


class Screener:
    """Calls the library. Not thread-safe: all calls share one result buffer."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._call, self._json_at = rules.library.lib.bank_velocity, int(rules.library.lib.BANK_JSON)
        self._make_room(_ROOM)

    def screen(self, history: NativeHistory, value: bytes, customer_id: int) -> Screened | None:
        """Apply a record to its customer's history. Returns None, and changes nothing, if the record is not in the common form or is of
        another customer.
        """
        done = self._call(history.pointer, value, len(value), customer_id, self._out, self._room)
        if not done:
            return None
        if done < 0:
            self._make_room(-done)
            return self.screen(history, value, customer_id)
        raw = self._bytes
        lsn, look, json, facts, gone = _HEAD.unpack_from(raw)
        key_at, json_at = _HEAD.size, self._json_at
        facts_at = json_at + json
        return Screened(
            look,
            None if lsn < 0 else lsn,
            raw[json_at:facts_at],
            raw[key_at : key_at + _KEY_BYTES],
            raw[facts_at : facts_at + facts],
            raw[key_at + _KEY_BYTES : key_at + 2 * _KEY_BYTES] if gone else b"",
        )

    def _make_room(self, room: int) -> None:
        ffi = self.rules.library.ffi
        self._out, self._room = ffi.new("uint8_t[]", room), room
        self._bytes = ffi.buffer(self._out)
