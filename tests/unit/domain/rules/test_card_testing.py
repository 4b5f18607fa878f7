"""Tests rules of the kind card_testing: cases, each with its reason."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from app.domain.money import to_decimal
from app.domain.rules.rule_file import read_rules
from tests.support.streams.rules import SPANS, outcome, random_types, run, series
from tests.support.streams.velocity import MINUTE_US, SECOND_US, transaction

M, S = MINUTE_US, SECOND_US


def random_fields(rnd: random.Random) -> dict[str, Any]:
    """Random fields of a rule of this kind, for the test of prefilters."""
    probe = rnd.randrange(5)
    return {
        "probe_at_most": to_decimal(probe), "probe_count": rnd.choice((1, 1, 2)), "probe_window": rnd.choice(SPANS),
        "at_least": to_decimal(rnd.randrange(probe + 1, 8)), "window": rnd.choice(SPANS), "types": random_types(rnd),
    }  # fmt: skip


CARD_TESTING = [
    ("fired", [(0, "1.00"), (M, "2.00"), (2 * M, "0.01"), (3 * M, "100.00")], "three probes and exactly 100"),
    ("not_fired", [(0, "1.00"), (M, "2.01"), (2 * M, "1.00"), (3 * M, "100.00")], "one probe is a cent too large"),
    ("not_fired", [(0, "1.00"), (M, "1.00"), (2 * M, "1.00"), (3 * M, "99.99")], "the amount is a cent too small"),
    ("not_fired", [(0, "1.00"), (M, "1.00"), (3 * M, "500.00")], "two probes only"),
    ("not_fired", [(0, "1.00"), (M, "1.00"), (5 * M, "1.00"), (6 * M, "100.00")], "the third is five minutes after the first"),
    ("fired", [(0, "1.00"), (M, "1.00"), (5 * M - 1, "1.00"), (6 * M, "100.00")], "the third is a microsecond sooner"),
    ("fired", [(0, "1.00"), (M, "1.00"), (2 * M, "1.00"), (62 * M - 1, "100.00")], "just within the hour after the last probe"),
    ("not_fired", [(0, "1.00"), (M, "1.00"), (2 * M, "1.00"), (62 * M, "100.00")], "an hour after the last probe"),
    ("fired", [(0, "1.00"), (0, "1.00"), (0, "1.00"), (0, "100.00")], "all at one instant"),
    ("fired", [(0, "1.00"), (M, "1.00"), (2 * M, "1.00"), (20 * M, "1.00"), (21 * M, "100.00")], "a lone probe after the three"),
    ("not_fired", [(0, "1.00"), (M, "1.00"), (2 * M, "1.00"), (3 * M, "100.00"), (4 * M, "1.00")], "a probe is not the amount"),
    ("not_fired", [(0, "1.00"), (0, "1.00"), (0, "1.00"), (20 * M, "1.00"), (60 * M, "100.00")], "three an hour ago, and one since"),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "steps", "why"), CARD_TESTING)
def test_card_testing(expected: str, steps: list[tuple[int, str]], why: str) -> None:
    assert outcome("card_testing", *series(*steps)) == expected, why


PROBES = [(0, "1.00"), (M, "1.00"), (2 * M, "1.00")]


@pytest.mark.parametrize(
    ("probes", "last", "why"),
    [
        ({"kind": "credit"}, {}, "money that came in is no probe"),
        ({}, {"kind": "credit"}, "nor is it the large amount"),
        ({"currency": "USD"}, {}, "thresholds are in one currency"),
        ({"status": "declined"}, {}, "declined probes moved no money"),
        ({"status": "reversed"}, {}, "reversed probes moved no money"),
    ],
)
def test_card_testing_looks_at_money_that_left_in_one_currency(
    probes: Mapping[str, Any], last: Mapping[str, Any], why: str
) -> None:
    assert outcome("card_testing", *series(*PROBES), transaction(9, 3 * M, "200.00")) == "fired"
    assert (
        outcome("card_testing", *series(*PROBES, **probes), transaction(9, 3 * M, "200.00", **last)) == "not_fired"
    ), why


def test_probes_on_two_accounts_of_a_customer_count_together() -> None:
    records = series(*PROBES)
    records[1] = transaction(50, M, "1.00", account_id=32)
    assert outcome("card_testing", *records, transaction(9, 3 * M, "200.00")) == "fired"


def test_probes_that_come_late_but_before_the_amount_count() -> None:
    first, second, third = series(*PROBES)
    assert outcome("card_testing", third, first, second, transaction(9, 3 * M, "200.00")) == "fired"


@pytest.mark.parametrize(
    ("expected", "steps", "why"),
    [
        ("fired", [(0, "0.99"), (60 * S - 1, "500.01")], "within the minute"),
        ("not_fired", [(0, "0.99"), (60 * S, "500.01")], "a minute later"),
        ("not_fired", [(0, "1.00"), (S, "500.01")], "one is not less than one"),
        ("not_fired", [(0, "0.99"), (S, "500.00")], "500 is not more than 500"),
    ],
)
def test_probe_then_big(expected: str, steps: list[tuple[int, str]], why: str) -> None:
    assert outcome("probe_then_big", *series(*steps)) == expected, why


def test_the_newest_run_that_is_long_enough_is_told_and_not_a_longer_one_before_it() -> None:
    table = {
        "id": "probed",
        "kind": "card_testing",
        "severity": "low",
        "probe_at_most": "2.00",
        "probe_count": 2,
        "probe_window": "10s",
        "at_least": "100.00",
        "window": "10m",
        "explanation": "{probes} probes",
    }
    records = series(*((at * S, "1.00") for at in (0, 1, 2, 60, 61)), (70 * S, "100.00"))
    (found,) = run(read_rules({"rule": [table]}, "my.toml"), *records).alerts
    assert (found.explanation, [it.offset for it in found.evidence]) == ("2 probes", [6, 5, 4])
