"""Tests rules of the kind structuring: cases, each with its reason."""

import random
from typing import Any

import pytest

from app.domain.money import to_decimal
from tests.support.streams.rules import SPANS, outcome, random_types, series
from tests.support.streams.velocity import DAY_US, MINUTE_US, SECOND_US

M, S = MINUTE_US, SECOND_US


def random_fields(rnd: random.Random) -> dict[str, Any]:
    """Random fields of a rule of this kind, for the test of prefilters."""
    low = rnd.randrange(7)
    return {
        "at_least": to_decimal(low), "below": to_decimal(rnd.randrange(low + 1, 9)), "minimum_count": rnd.randrange(1, 4),
        "window": rnd.choice(SPANS), "types": random_types(rnd),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "steps", "why"),
    [
        ("fired", [(0, "9000.00"), (DAY_US, "9500.00"), (2 * DAY_US, "9999.99")], "three in the band"),
        ("fired", [(0, "9500.00"), (DAY_US, "9500.00"), (2 * DAY_US, "9000.00")], "the third begins the band"),
        ("not_fired", [(0, "9000.00"), (DAY_US, "9500.00"), (2 * DAY_US, "10000.00")], "10000 is not in the band"),
        ("not_fired", [(0, "8999.99"), (DAY_US, "9500.00"), (2 * DAY_US, "9500.00")], "8999.99 is not in the band"),
        ("not_fired", [(0, "9000.00"), (DAY_US, "9500.00"), (7 * DAY_US, "9500.00")], "the first is seven days old"),
        ("not_fired", [(0, "9000.00")] * 3 + [(DAY_US, "5.00")], "only what is in the band itself"),
    ],
)
def test_structuring(expected: str, steps: list[tuple[int, str]], why: str) -> None:
    assert outcome("structuring", *series(*steps)) == expected, why
