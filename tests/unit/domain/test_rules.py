"""The fraud rules as tables of cases, each with its reason; and what a rules file may say."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from app.config.rules_file import load_rules
from app.domain.records import AlertRecord, TransactionRecord
from app.domain.rules.fields import RulesError
from app.domain.rules.rule import RuleSet
from app.domain.rules.rule_file import read_rules
from app.domain.rules.verdicts import Condition, score
from app.domain.screening import Screening, TransactionChange, screen
from app.domain.velocity import CustomerHistory, History
from app.native.history import NativeHistory, Rules
from tests.support.streams.native import library
from tests.support.streams.velocity import DAY_US, MINUTE_US, SECOND_US, transaction

SHIPPED = load_rules(None)

new_history: Callable[[RuleSet], CustomerHistory] = lambda rules: History(rules.selections)  # noqa: E731 - it is replaced


@pytest.fixture(autouse=True, scope="module", params=["Python", "library"])
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test with histories in Python, and in the native library."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "library":
            patch.setitem(globals(), "new_history", lambda rules: NativeHistory(Rules(library(), rules)))
        yield


def run(rules: RuleSet, *records: TransactionRecord) -> Screening:
    """What the last record comes to."""
    history = new_history(rules)
    results = [screen(history, TransactionChange.of(record), rules, now_us=0) for record in records]
    return results[-1]


def outcome(rule: str, *records: TransactionRecord) -> str:
    return dict(run(SHIPPED, *records).outcomes)[rule]


def alert(rule: str, *records: TransactionRecord) -> AlertRecord:
    (found,) = [alert for alert in run(SHIPPED, *records).alerts if alert.rule == rule]
    return found


def series(*steps: tuple[int, str], **common: Any) -> list[TransactionRecord]:
    """Transactions at these times, of these amounts."""
    return [transaction(number, at_us, amount, **common) for number, (at_us, amount) in enumerate(steps, 1)]


M, S = MINUTE_US, SECOND_US

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


def test_a_large_amount_is_held_against_amounts_of_its_own_kind() -> None:
    big = transaction(9, 6 * DAY_US, "5000.00")
    assert outcome("large_amount", *series(*TENS, kind="credit"), big) == "insufficient_history"
    assert outcome("large_amount", *series(*TENS, currency="USD"), big) == "insufficient_history"
    assert outcome("large_amount", *series(*TENS, status="declined"), big) == "insufficient_history"
    assert outcome("large_amount", *series(*TENS), transaction(9, 6 * DAY_US, "5000.00", kind="credit")) == "not_fired"


def test_a_large_amount_says_what_it_was_held_against() -> None:
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


@pytest.mark.parametrize(
    ("expected", "amount", "kind"),
    [("fired", "10000.00", "debit"), ("fired", "10000.00", "credit"), ("not_fired", "9999.99", "debit")],
)
def test_threshold(expected: str, amount: str, kind: str) -> None:
    assert outcome("threshold", transaction(1, amount=amount, kind=kind)) == expected


@pytest.mark.parametrize(
    ("expected", "steps", "why"),
    [
        ("fired", [(0, "9000.00"), (DAY_US, "9500.00"), (2 * DAY_US, "9999.99")], "three in the band"),
        ("not_fired", [(0, "9000.00"), (DAY_US, "9500.00"), (2 * DAY_US, "10000.00")], "10000 is not in the band"),
        ("not_fired", [(0, "8999.99"), (DAY_US, "9500.00"), (2 * DAY_US, "9500.00")], "8999.99 is not in the band"),
        ("not_fired", [(0, "9000.00"), (DAY_US, "9500.00"), (7 * DAY_US, "9500.00")], "the first is seven days old"),
        ("not_fired", [(0, "9000.00")] * 3 + [(DAY_US, "5.00")], "only what is in the band itself"),
    ],
)
def test_structuring(expected: str, steps: list[tuple[int, str]], why: str) -> None:
    assert outcome("structuring", *series(*steps)) == expected, why


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
def test_an_alert_names_the_newest_of_what_it_rests_on(
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
def test_an_alert_says_what_was_compared_with_what(
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
def test_a_score_is_of_the_condition_that_was_passed_the_furthest(
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


def test_a_rule_of_ones_own_is_in_force() -> None:
    (found,) = run(rules_of(), transaction(1, amount="5.00")).alerts
    assert (found.rule, found.severity, found.explanation) == ("big", "low", "5.00 is much.")


def test_a_rule_may_begin_at_nothing() -> None:
    (rule,) = rules_of(at_least="0.00").rules
    assert [concern.at_least_minor for concern in rule.prefilters] == [0]


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
        ("card_testing", "at_least", "2.00", "allowed: an amount above probe_at_most"),
        ("card_testing", "probe_count", 0, "probe_count = 0; allowed: a whole number from 1"),
        ("card_testing", "probe_count", True, "probe_count = True; allowed: a whole number from 1"),
        ("card_testing", "window", "31d", "window = '31d'; allowed: a time span .* at most 30d"),
        ("card_testing", "window", "60", "window = '60'; allowed: a time span"),
        ("large_amount", "factor", "0", "factor = '0'; allowed: a factor above zero"),
        ("large_amount", "factor", "many", "factor = 'many'; allowed: a factor above zero"),
        ("large_amount", "minimum_history", "5", "minimum_history = '5'; allowed: a whole number"),
        ("velocity_count", "limits", {"2m": 5}, "limits = .*; allowed: a table of windows"),
        ("velocity_count", "limits", {}, "limits = .*; allowed: a table of windows"),
        ("velocity_count", "limits", {"1m": 0}, "limits = 0; allowed: a table of windows"),
        ("structuring", "below", "9000.00", "allowed: an amount above at_least"),
    ],
)
def test_each_kind_refuses_what_makes_no_sense_for_it(rule: str, field: str, value: object, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        read_rules({"rule": [{**SHIPPED_TABLES[rule], field: value}]}, "my.toml")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RulesError) as refused:
        read_rules({"rule": [{**THRESHOLD, "severity": "x"}, {**THRESHOLD, "at_least": "y"}], "ruel": []}, "my.toml")
    for part in ("severity = 'x'", "at_least = 'y'", "id 'big' is used twice", "'ruel' is no part of it"):
        assert part in str(refused.value)


def test_a_rules_file_that_is_missing_broken_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"none\.toml: No such file.*BANKSTREAM_RULES_FILE"):
        load_rules(tmp_path / "none.toml")
    for content, message in ((b"[[rule", "this is no TOML"), (b"\xff", "this is no TOML"), (b"", "there are no rules")):
        (tmp_path / "rules.toml").write_bytes(content)
        with pytest.raises(RulesError, match=message):
            load_rules(tmp_path / "rules.toml")


def test_a_rules_file_of_ones_own_replaces_the_shipped_one(tmp_path: Path) -> None:
    text = "\n".join(f"{name} = {value!r}" for name, value in THRESHOLD.items())
    (tmp_path / "rules.toml").write_text(f"[[rule]]\n{text}\n")
    assert [rule.id for rule in load_rules(tmp_path / "rules.toml").rules] == ["big"]


def test_the_shipped_rules_have_sentences_that_can_be_filled_in() -> None:
    assert {rule.id for rule in SHIPPED.rules} >= {"card_testing", "velocity_count", "large_amount"}
    for rule in SHIPPED.rules:
        assert "{" not in rule.explanation.format(**dict.fromkeys(rule.placeholders, "x"))
