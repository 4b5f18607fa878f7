"""Encodes the keys of tables as bytes that sort like the numbers in them."""

from struct import Struct, error
from typing import Final

BIAS: Final = 1 << 63

_PACKERS: Final = tuple(Struct(f">{count}Q") for count in range(9))
_ONE: Final = _PACKERS[1].pack
_PAIR: Final = _PACKERS[2].pack


def number_key(*numbers: int) -> bytes:
    """Encodes at most eight signed 64-bit integers as 8 bytes each. The bytes sort like the numbers. OverflowError beyond 64 bits.

    >>> number_key(-1) < number_key(0) < number_key(1) < number_key(1, 0)
    True
    """
    try:
        if len(numbers) == 2:  # most keys have one number or two
            return _PAIR(numbers[0] + BIAS, numbers[1] + BIAS)
        if len(numbers) == 1:
            return _ONE(numbers[0] + BIAS)
        return _PACKERS[len(numbers)].pack(*map(BIAS.__add__, numbers))
    except error:
        raise OverflowError(f"{numbers} do not fit 64 bits") from None


def decode_number_key(key: bytes) -> tuple[int, ...]:
    """Returns the numbers of a key that `number_key` encoded."""
    return tuple(int.from_bytes(key[at : at + 8], "big") - BIAS for at in range(0, len(key), 8))


def after_prefix(prefix: bytes) -> bytes | None:
    """Returns the first key after all keys with this prefix, as the end of a scan; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
