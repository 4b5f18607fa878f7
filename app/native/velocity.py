"""A transaction of the common kind into its customer's history, by one call of the native library."""

from typing import Final

import msgspec

from app.native.history import EMPTY_SIZE, NativeHistory, Rules

QUIET: Final = 1
"""No rule has anything to say."""
CONCERNED: Final = 2
"""Rules have to be asked."""

_KEY_BYTES: Final = 32


class Screened(msgspec.Struct, frozen=True):
    """What a transaction came to: what to store and to emit, as bytes, and whether rules look at it (neither QUIET nor CONCERNED: no)."""

    look: int
    velocity: bytes
    key: bytes
    """The stored key of its event, whose value is `facts`."""
    facts: bytes
    expired: list[bytes]
    """The stored keys of events that are beyond the horizon now."""
    size: int
    """What the customer's history takes, in events."""


class Screener:
    """Not for several threads: what the library answers stands in one place."""

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
        """Put a record of bank.transactions into the history of its customer. None for one that is not of the common kind, or of
        another customer: then nothing has changed.
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
