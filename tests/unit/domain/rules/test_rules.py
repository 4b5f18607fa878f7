"""Tests the alerts of rules, and the contents that a rules file may have."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from app.config.rules_file import load_rules
from app.domain.records import WINDOWS_US
from app.domain.rules.fields import RulesError
from app.domain.rules.rule import RuleSet
from app.domain.rules.rule_file import read_rules
from app.domain.rules.verdicts import Condition, score
from tests.support.streams.rules import alert, run, series, shipped
from tests.support.streams.velocity import MINUTE_US, SECOND_US, transaction

M, S = MINUTE_US, SECOND_US


@pytest.mark.parametrize(
    ("rule", "amounts", "own", "evidence", "why"),
    [
        ("structuring", ["9000.00"] * 4, "9500.00", [5, 4, 3, 2, 1], "all that are in the band"),
        ("structuring", ["9000.00"] * 30, "9500.00", list(range(31, 11, -1)), "the newest twenty, its own among them"),
        ("structuring", ["9000.00", "5.00"] * 2, "9500.00", [5, 3, 1], "none that is beside it"),
        ("large_amount", ["100.00"] * 5, "500.00", [6, 5, 4, 3, 2, 1], "all that make the mean"),
        ("large_amount", ["100.00"] * 30, "500.00", list(range(31, 11, -1)), "the newest twenty, its own among them"),
        ("card_testing", ["1.00"] * 3, "100.00", [4, 3, 2, 1], "its own, and the probes"),
        (
            "card_testing",
            ["1.00"] * 30,
            "100.00",
            list(range(31, 10, -1)),
            "its own, and the newest twenty of a run of probes",
        ),
        ("threshold", ["1.00"], "10000.00", [2], "its own alone"),
    ],
)
def test_an_alert_names_the_newest_records_of_its_evidence(
    rule: str, amounts: list[str], own: str, evidence: list[int], why: str
) -> None:
    found = alert(rule, *series(*((number * S, amount) for number, amount in enumerate([*amounts, own]))))
    assert [it.offset for it in found.evidence] == evidence, why


@pytest.mark.parametrize(
    ("rule", "steps", "conditions", "says"),
    [
        (
            "structuring",
            [(0, "9000.00"), (S, "9500.00"), (2 * S, "9999.99")],
            [("count in band", "3", "3", "2")],
            "3 amounts just below the reporting threshold within seven days, together 28499.99 EUR.",
        ),
        ("threshold", [(0, "10000.00")], [("amount", "10000.00", "10000.00", "9999.99")], "10000.00 EUR"),
        (
            "card_testing",
            [(0, "1.00"), (S, "1.50"), (2 * S, "2.00"), (3 * S, "150.00")],
            [("amount", "150.00", "100.00", "99.99"), ("probes", "3", "3", "2")],
            "3 payments of at most 2.00 EUR",
        ),
    ],
)
def test_an_alert_has_the_compared_values_and_thresholds(
    rule: str, steps: list[tuple[int, str]], conditions: list[tuple[str, str, str, str]], says: str
) -> None:
    found = alert(rule, *series(*steps))
    assert [
        (it["name"], it["value"], it["threshold"], it["would_not_fire"]) for it in found.features["conditions"]
    ] == conditions
    assert all((it["comparison"], it["holds"]) == (">=", True) for it in found.features["conditions"])
    assert says in found.explanation


@pytest.mark.parametrize("kind", ["debit", "credit"])
def test_an_alert_describes_its_transaction(kind: str) -> None:
    found = alert("threshold", transaction(1, M, "10000.00", kind=kind, status="pending", currency="USD"))
    assert {name: found.features[name] for name in ("amount", "currency", "type", "status", "fired_before")} == {
        "amount": "10000.00",
        "currency": "USD",
        "type": kind,
        "status": "pending",
        "fired_before": [],
    }
    assert (found.customer_id, found.account_id, found.transaction_id) == (7, 31, 1)
    assert (found.alert_id, found.event_time) == ("threshold:7-31-1", "2026-03-01T12:01:00.000000Z")
    assert (found.detected_at, found.source.offset) == ("1970-01-01T00:00:00.000000Z", 1)


def test_a_score_grows_with_how_far_a_threshold_was_passed_and_stays_below_one() -> None:
    at, twice, far = (
        alert("threshold", transaction(1, amount=amount)).score for amount in ("10000.00", "20000.00", "9999999.00")
    )
    assert (at, twice) == ("0.5000", "0.7500")
    assert twice < far < "1"


@pytest.mark.parametrize(
    ("conditions", "expected", "why"),
    [
        ((Condition("count", 10, 5),), "0.8750", "half way from its base to one, at twice the threshold"),
        ((Condition("count", 10, 5), Condition("amount", 20, 5)), "0.9375", "the one that was passed the furthest counts"),
        ((Condition("amount", 5, 5), Condition("history", 50, 5, is_scored=False)), "0.7500", "that there is much history says nothing"),
        ((Condition("count", 1, 5),), "0.7500", "what does not hold takes nothing away"),
        ((Condition("count", 7, 0),), "0.7500", "of zero there is no twice"),
        ((Condition("count", 2, 1),), "0.8750", "of one there is"),
        ((), "0.7500", "nothing was compared"),
    ],
)  # fmt: skip
def test_a_score_is_that_of_the_most_exceeded_condition(
    conditions: tuple[Condition, ...], expected: str, why: str
) -> None:
    assert score("high", conditions) == expected, why


THRESHOLD = {
    "id": "big",
    "kind": "threshold",
    "severity": "low",
    "at_least": "5.00",
    "explanation": "{amount} is much.",
}


def rules_of(**changes: Any) -> RuleSet:
    table = {name: value for name, value in {**THRESHOLD, **changes}.items() if value is not None}
    return read_rules({"rule": [table]}, "my.toml")


def test_a_custom_rule_is_evaluated() -> None:
    (found,) = run(rules_of(), transaction(1, amount="5.00")).alerts
    assert (found.rule, found.severity, found.explanation) == ("big", "low", "5.00 is much.")


def test_a_rule_that_has_fired_on_a_transaction_is_not_asked_again() -> None:
    rules, first = rules_of(), transaction(1, amount="5.00")
    for amount in ("4.00", "6.00"):
        again = run(rules, first, transaction(1, amount=amount, op="updated", lsn=900))
        assert (list(again.outcomes), again.alerts) == ([], [])


def test_a_threshold_may_be_zero() -> None:
    assert [it.rule for it in run(rules_of(at_least="0.00"), transaction(1, amount="0.01")).alerts] == ["big"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "guess"}, r"rule 'big': kind = 'guess'; allowed: card_testing, large_amount"),
        ({"kind": None}, r"rule 'big': kind = None; allowed"),
        ({"id": None}, r"rule number 1: id is missing; allowed: lower-case letters"),
        ({"id": "Big One"}, r"id = 'Big One'; allowed: lower-case letters"),
        ({"id": 5}, r"rule number 1: id = 5; allowed"),
        ({"severity": "huge"}, r"severity = 'huge'; allowed: low, medium, high, critical"),
        ({"at_least": None}, r"at_least is missing; allowed: an amount as a decimal string"),
        ({"at_least": 5.0}, r"at_least = 5\.0; allowed: an amount as a decimal string"),
        ({"at_least": "-5"}, r"at_least = '-5'; allowed"),
        ({"at_least": "5.001"}, r"at_least = '5.001'; allowed"),
        ({"types": []}, r'types = \[\]; allowed: a list of "debit", "credit" or both'),
        ({"types": ["cash"]}, r"types = \['cash'\]; allowed"),
        ({"explanation": "{secret}"}, r"explanation = '\{secret\}'; allowed: a sentence .* of amount, currency"),
        ({"explanation": "{amount.__class__}"}, r"explanation = .*; allowed"),
        ({"explanation": "{amount!r}"}, r"explanation = .*; allowed"),
        ({"explanation": "{amount:>9}"}, r"explanation = .*; allowed"),
        ({"explanation": "{amount"}, r"explanation = .*; allowed"),
        ({"explanation": " "}, r"explanation = ' '; allowed"),
        ({"atleast": "5.00"}, r"there is no field 'atleast'; allowed: at_least, explanation, id"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_with_what_is_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RulesError, match=message) as refused:
        rules_of(**changes)
    assert str(refused.value).startswith("my.toml: ")


SHIPPED_TABLES = {
    table["id"]: table for table in tomllib.loads(files("app").joinpath("rules.toml").read_text())["rule"]
}


@pytest.mark.parametrize(
    ("rule", "field", "value", "message"),
    [
        (
            "card_testing",
            "at_least",
            "2.00",
            "at_least = 'an amount not above probe_at_most'; allowed: an amount above probe_at_most",
        ),
        ("card_testing", "probe_count", 0, "probe_count = 0; allowed: a whole number from 1"),
        ("card_testing", "probe_count", True, "probe_count = True; allowed: a whole number from 1"),
        ("card_testing", "window", "31d", "window = '31d'; allowed: a time span .* at most 30d"),
        ("card_testing", "window", "60", "window = '60'; allowed: a time span"),
        ("large_amount", "factor", "0", "factor = '0'; allowed: a factor above zero"),
        ("large_amount", "factor", "many", "factor = 'many'; allowed: a factor above zero"),
        ("large_amount", "minimum_history", 1_000_001, "minimum_history = 1000001; allowed: a whole number"),
        ("large_amount", "minimum_history", "5", "minimum_history = '5'; allowed: a whole number"),
        ("velocity_count", "limits", {"2m": 5}, r"limits = \{'2m': 5\}; allowed: a table of windows"),
        ("velocity_count", "limits", {}, "limits = .*; allowed: a table of windows"),
        ("velocity_count", "limits", {"1m": 0}, "limits = 0; allowed: a table of windows"),
        (
            "structuring",
            "below",
            "9000.00",
            "below = 'an amount not above at_least'; allowed: an amount above at_least",
        ),
    ],
)
def test_each_kind_of_rule_refuses_invalid_fields(rule: str, field: str, value: object, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        read_rules({"rule": [{**SHIPPED_TABLES[rule], field: value}]}, "my.toml")


@pytest.mark.parametrize(
    ("rule", "field", "value"),
    [
        ("large_amount", "minimum_history", 1),
        ("large_amount", "minimum_history", 1_000_000),
        ("large_amount", "window", "1s"),
        ("large_amount", "window", "30d"),
        ("large_amount", "factor", "0.000001"),
        ("large_amount", "factor", "999999.999999"),
        ("large_amount", "at_least", "0.00"),
        ("velocity_count", "limits", dict.fromkeys(WINDOWS_US, 5)),
    ],
)
def test_the_least_and_the_greatest_values_are_allowed(rule: str, field: str, value: object) -> None:
    read_rules({"rule": [{**SHIPPED_TABLES[rule], field: value}]}, "my.toml")


def test_a_band_may_be_of_one_amount() -> None:
    (rule,) = read_rules({"rule": [{**SHIPPED_TABLES["structuring"], "below": "9000.01"}]}, "my.toml").rules
    (band,) = rule.selections
    assert (band.at_least_minor, band.at_most_minor) == (900_000, 900_000)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RulesError) as refused:
        read_rules(
            {"rule": [{"kind": "guess"}, {**THRESHOLD, "severity": "x"}, {**THRESHOLD, "at_least": "y"}], "ruel": []},
            "my.toml",
        )
    for part in ("kind = 'guess'", "severity = 'x'", "at_least = 'y'", "id 'big' is used twice", "'ruel' is unknown"):
        assert part in str(refused.value)


def test_a_rules_file_that_is_missing_broken_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"none\.toml: No such file.*BANKSTREAM_RULES_FILE"):
        load_rules(tmp_path / "none.toml")
    for content, message in ((b"[[rule", "this is no TOML"), (b"\xff", "this is no TOML"), (b"", "there are no rules")):
        (tmp_path / "rules.toml").write_bytes(content)
        with pytest.raises(RulesError, match=message):
            load_rules(tmp_path / "rules.toml")


def test_a_custom_rules_file_replaces_the_shipped_one(tmp_path: Path) -> None:
    text = "\n".join(f"{name} = {value!r}" for name, value in THRESHOLD.items())
    (tmp_path / "rules.toml").write_text(f"[[rule]]\n{text}\n")
    assert [rule.id for rule in load_rules(tmp_path / "rules.toml").rules] == ["big"]


def test_the_shipped_rules_have_sentences_that_can_be_filled_in() -> None:
    assert {rule.id for rule in shipped().rules} >= {"card_testing", "velocity_count", "large_amount"}
    for rule in shipped().rules:
        assert "{" not in rule.explanation.format(**dict.fromkeys(rule.placeholders, "x"))
