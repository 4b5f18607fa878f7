"""Converts amounts of money between decimal strings (in records) and integer minor units (in computations); never floats.

The scale of an amount is that of its column (NUMERIC(18,2): two digits). It does not depend on the currency.
"""

import re
from typing import Final

SCALE: Final = 2
_UNIT: Final = 10**SCALE
_AMOUNT: Final = re.compile(r"(-?)(\d{1,16})(?:\.(\d{1,12}))?", re.ASCII)


def to_minor(text: str) -> int:
    """Converts `"12.30"` to 1230. Raises ValueError unless the text is a plain decimal of at most two digits after the point.

    >>> to_minor("12.3"), to_minor("-0.01"), to_minor("9999999999999999.99")
    (1230, -1, 999999999999999999)
    """
    if text[-3:-2] == "." and len(text) <= 19:  # fast path for the usual form: this function reads every amount
        digits = text[:-3] + text[-2:]
        if len(digits) > SCALE and digits.isdigit() and digits.isascii():
            return int(digits)
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of money")
    sign, whole, fraction = match.groups(default="")
    kept, rest = fraction[:SCALE].ljust(SCALE, "0"), fraction[SCALE:]
    if rest.strip("0"):
        raise ValueError(f"{text!r} has more than {SCALE} digits after the point")
    minor = int(whole + kept)
    return -minor if sign else minor


def to_decimal(minor: int) -> str:
    """Converts 1230 to `"12.30"`.

    >>> to_decimal(1230), to_decimal(-1), to_decimal(0)
    ('12.30', '-0.01', '0.00')
    """
    if minor < 0:
        return "-" + to_decimal(-minor)
    return "%d.%02d" % divmod(minor, _UNIT)  # noqa: UP031 - three times as fast as an f-string, and this function writes every amount


def half_even(total: int, count: int) -> int:
    """Returns `total / count` rounded to the nearest integer; a half rounds to the even integer.

    >>> half_even(5, 2), half_even(7, 2), half_even(10, 3), half_even(-5, 2)
    (2, 4, 3, -2)
    """
    quotient, rest = divmod(total, count)
    return quotient + (2 * rest > count or (2 * rest == count and quotient % 2 == 1))
