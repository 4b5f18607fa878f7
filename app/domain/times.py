"""Instants: microseconds since the epoch inside, RFC 3339 in UTC with microseconds outside."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
MIN_US: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_US: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND


def format_us(instant_us: int) -> str:
    """`2026-03-01T09:00:00.000000Z`. Instants beyond years 1 to 9999 are clamped to them."""
    moment = EPOCH + timedelta(microseconds=min(max(instant_us, MIN_US), MAX_US))
    return (
        moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if moment.year >= 1000
        else moment.isoformat(timespec="microseconds")[:26] + "Z"
    )


def parse_us(text: str) -> int:
    """Microseconds since the epoch of an ISO 8601 instant; without an offset it is taken as UTC. ValueError if it is none.

    >>> parse_us("2026-03-01T10:00:00.5+01:00") == parse_us("2026-03-01T09:00:00.500000Z")
    True
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MICROSECOND
