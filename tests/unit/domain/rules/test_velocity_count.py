"""Tests rules of the kind velocity_count: cases, each with its reason."""

import random
from typing import Any

import pytest

from app.domain.rules.rule_file import read_rules
from tests.support.streams.rules import alert, outcome, run, series
from tests.support.streams.velocity import MINUTE_US, SECOND_US

M, S = MINUTE_US, SECOND_US


def random_fields(rnd: random.Random) -> dict[str, Any]:
    """Random fields of a rule of this kind, for the test of prefilters."""
    return {"limits": {name: rnd.randrange(1, 6) for name in rnd.sample(("1m", "5m", "1h"), rnd.randrange(1, 4))}}


def test_an_alert_tells_the_count_the_limit_and_the_window() -> None:
    table = {
        "id": "many",
        "kind": "velocity_count",
        "severity": "low",
        "limits": {"1m": 2},
        "explanation": "{count} of {limit} in {window}",
    }
    records = series(*((number * S, "10.00") for number in range(3)))
    (found,) = run(read_rules({"rule": [table]}, "my.toml"), *records).alerts
    assert found.explanation == "3 of 2 in 1m"


@pytest.mark.parametrize(
    ("expected", "count", "apart_us", "window", "why"),
    [
        ("fired", 10, S, "1m", "ten within a minute"),
        ("not_fired", 9, S, None, "nine are fine"),
        ("not_fired", 10, 7 * S, None, "ten that take longer than a minute are fine"),
        ("fired", 20, 15 * S, "5m", "twenty within five minutes"),
        ("fired", 60, 59 * S, "1h", "sixty within the hour"),
        ("not_fired", 60, 62 * S, None, "sixty that take longer than the hour"),
    ],
)
def test_velocity_count(expected: str, count: int, apart_us: int, window: str | None, why: str) -> None:
    records = series(*((number * apart_us, "10.00") for number in range(count)))
    assert outcome("velocity_count", *records) == expected, why
    if window is not None:
        found = alert("velocity_count", *records)
        assert f"in {window}, where {count} " in found.explanation
        assert {it["name"]: it["holds"] for it in found.features["conditions"]} == {
            f"count {name}": name == window for name in ("1m", "5m", "1h")
        }
        assert [it.offset for it in found.evidence] == list(range(count, max(0, count - 20), -1))
