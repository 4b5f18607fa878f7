"""Tests rules of the kind large_amount: cases, each with its reason."""

import random
from typing import Any

import pytest

from app.domain.money import to_decimal
from tests.support.streams.rules import SPANS, alert, outcome, random_types, series
from tests.support.streams.velocity import DAY_US, MINUTE_US, SECOND_US, transaction

M, S = MINUTE_US, SECOND_US


def random_fields(rnd: random.Random) -> dict[str, Any]:
    """Random fields of a rule of this kind, for the test of prefilters."""
    return {
        "at_least": to_decimal(rnd.randrange(8)), "factor": rnd.choice(("0.5", "1", "1.5", "3")), "window": rnd.choice(SPANS),
        "minimum_history": rnd.randrange(1, 4), "types": random_types(rnd),
    }  # fmt: skip


TENS = [(number * DAY_US, "100.00") for number in range(5)]


@pytest.mark.parametrize(
    ("expected", "steps", "why"),
    [
        ("fired", [*TENS, (6 * DAY_US, "500.00")], "five times the mean of five others, and 500"),
        ("not_fired", [*TENS, (6 * DAY_US, "499.99")], "below the minimum, whatever the mean"),
        (
            "not_fired",
            [*TENS, (6 * DAY_US - 1, "400.00"), (6 * DAY_US, "700.00")],
            "less than five times a mean of 150",
        ),
        ("fired", [*TENS, (6 * DAY_US - 1, "400.00"), (6 * DAY_US, "750.00")], "just five times a mean of 150"),
        ("insufficient_history", [*TENS[:4], (6 * DAY_US, "9000.00")], "four others are too few to tell"),
        ("not_fired", [*TENS[:4], (6 * DAY_US, "499.00")], "too small an amount needs no history to be told"),
        ("insufficient_history", [*TENS, (30 * DAY_US, "9000.00")], "the first is 30 days old"),
        ("fired", [(0, "100.00")] * 5 + [(0, "500.00")], "all at one instant"),
    ],
)
def test_large_amount(expected: str, steps: list[tuple[int, str]], why: str) -> None:
    assert outcome("large_amount", *series(*steps)) == expected, why


def test_a_large_amount_is_compared_with_moved_amounts_of_its_type_and_currency() -> None:
    big = transaction(9, 6 * DAY_US, "5000.00")
    assert outcome("large_amount", *series(*TENS, kind="credit"), big) == "insufficient_history"
    assert outcome("large_amount", *series(*TENS, currency="USD"), big) == "insufficient_history"
    assert outcome("large_amount", *series(*TENS, status="declined"), big) == "insufficient_history"
    assert outcome("large_amount", *series(*TENS), transaction(9, 6 * DAY_US, "5000.00", kind="credit")) == "not_fired"


def test_an_alert_of_a_large_amount_has_the_amounts_it_was_compared_with() -> None:
    found = alert("large_amount", *series(*TENS, (6 * DAY_US, "1000.00")))
    assert found.explanation == "1000.00 EUR is far above this customer's mean of 100.00 EUR over 5 transactions."
    assert [(it["name"], it["threshold"], it["would_not_fire"]) for it in found.features["conditions"]] == [
        ("amount", "500.00", "499.99"),
        ("amount against own mean", "500.00", "499.99"),
        ("history", "5", "4"),
    ]
    assert found.score == "0.8750"
    many = alert("large_amount", *series(*((number, "100.00") for number in range(20)), (20, "500.00")))
    assert many.score == "0.7500", "much history makes it no surer"
