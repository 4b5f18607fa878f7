"""Converts instants between microseconds since the epoch (in computations) and RFC 3339 UTC text with microseconds (in records)."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
MIN_US: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_US: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND


def format_us(instant_us: int) -> str:
    """Returns text such as `2026-03-01T09:00:00.000000Z`. Instants outside the years 1 to 9999 are clamped to that range.

    >>> format_us(1), format_us(-1)
    ('1970-01-01T00:00:00.000001Z', '1969-12-31T23:59:59.999999Z')
    """
    if not MIN_US <= instant_us <= MAX_US:
        instant_us = min(max(instant_us, MIN_US), MAX_US)
    minute, rest_us = divmod(instant_us, 60_000_000)
    day, minute = divmod(minute, 1_440)
    digits = str(100_000_000 + rest_us)
    return f"{_format_day(day)}{_MINUTES[minute]}{digits[1:3]}.{digits[3:]}Z"


_MINUTES: Final = tuple(f"{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60))


@lru_cache(maxsize=4_096)
def _format_day(day: int) -> str:
    """Returns the date and `T`. Cached because many records share a day and `isoformat` is slow."""
    return (EPOCH + timedelta(days=day)).isoformat()[:11]


def parse_us(text: str) -> int:
    """Returns an ISO 8601 instant in microseconds since the epoch; text without an offset is UTC. Raises ValueError if invalid.

    >>> parse_us("2026-03-01T10:00:00.5+01:00") == parse_us("2026-03-01T09:00:00.500000Z")
    True
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def normalize(text: str) -> str:
    """Returns `format_us(parse_us(text))`, faster if the text already has that form. Raises ValueError if it is not an instant.

    >>> normalize("2026-03-01T10:00:00.5+01:00"), normalize("2026-03-01T09:00:00.500000Z")
    ('2026-03-01T09:00:00.500000Z', '2026-03-01T09:00:00.500000Z')
    """
    if len(text) == 27 and text[10] == "T" and text[19] == "." and text[26] == "Z" and text[4] == "-" == text[7]:
        moment = datetime.fromisoformat(text)
        if text[11:13] != "24":  # newer versions of Python read hour 24 as midnight
            return text
        return format_us((moment - EPOCH) // MICROSECOND)
    return format_us(parse_us(text))


def instant_us(name: str, text: str) -> int:
    """Returns the instant in microseconds since the epoch. Raises ValueError, naming the field, if `text` is not an instant."""
    try:
        return parse_us(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} is not an instant: {error}") from None
