"""Instants: microseconds since the epoch inside, RFC 3339 in UTC with microseconds outside."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
MIN_US: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_US: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND


def format_us(instant_us: int) -> str:
    """`2026-03-01T09:00:00.000000Z`. Instants beyond years 1 to 9999 are clamped to them.

    >>> format_us(1), format_us(-1)
    ('1970-01-01T00:00:00.000001Z', '1969-12-31T23:59:59.999999Z')
    """
    seconds, micros = divmod(min(max(instant_us, MIN_US), MAX_US), 1_000_000)
    return f"{_format_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=4_096)
def _format_second(seconds: int) -> str:
    """Many records share a second, and `strftime` is slow."""
    return (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def parse_us(text: str) -> int:
    """Microseconds since the epoch of an ISO 8601 instant; without an offset it is taken as UTC. ValueError if it is none.

    >>> parse_us("2026-03-01T10:00:00.5+01:00") == parse_us("2026-03-01T09:00:00.500000Z")
    True
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MICROSECOND
