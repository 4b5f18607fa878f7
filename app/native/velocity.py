"""Adds a common transaction to its customer's history with one call of the native library."""

from typing import Final

import msgspec

from app.native.history import EMPTY_SIZE, NativeHistory, Rules

QUIET: Final = 1
"""No prefilter matches: no rule fires."""
CONCERNED: Final = 2
"""A prefilter matches: the rules must be evaluated."""

_KEY_BYTES: Final = 32


class Screened(msgspec.Struct, frozen=True):
    """The result of a transaction: the bytes to store and emit. `look` is QUIET, CONCERNED, or 0 if the rules do not apply."""

    look: int
    velocity: bytes
    key: bytes
    """The stored key of its event, whose value is `facts`."""
    facts: bytes
    expired: list[bytes]
    """The stored keys of events that are now beyond the horizon."""
    size: int
    """Memory use of the customer's history, in units of one event."""


class Screener:
    """Calls the library. Not thread-safe: all calls share one result buffer."""

    def __init__(self, rules: Rules) -> None:
        library = rules.library
        self.rules = rules
        self._call = library.lib.bank_velocity
        self._out = library.ffi.new("uint8_t[]", library.lib.BANK_VELOCITY_ROOM)
        self._bytes = library.ffi.buffer(self._out)
        lib = library.lib
        self._facts, self._gone, self._json = lib.BANK_FACTS, lib.BANK_GONE, lib.BANK_JSON

    def screen(
        self, history: NativeHistory, value: bytes, customer_id: int, truncated_lsn: int | None
    ) -> Screened | None:  # fmt: skip
        """Put a record of bank.transactions into its customer's history. Returns None, and changes nothing, if the record is not common
        or is of another customer.
        """
        until = -1 if truncated_lsn is None else truncated_lsn
        done = self._call(history.pointer, value, len(value), customer_id, until, self._out)
        if not done:
            return None
        raw, facts, gone, json = self._bytes, self._facts, self._gone, self._json
        expired = done >> 24 & 0xFF
        return Screened(
            done >> 32 & 3,
            raw[json : json + (done & 0xFFFF)],
            raw[:_KEY_BYTES],
            raw[facts : facts + (done >> 16 & 0xFF)],
            [raw[at : at + _KEY_BYTES] for at in range(gone, gone + expired * _KEY_BYTES, _KEY_BYTES)]
            if expired
            else [],
            (done >> 34) + EMPTY_SIZE,
        )
