"""Tests the comparison of a derived record with its source change, and of a warehouse column with its source value, in a trace."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from app.domain.changes import RowChange
from app.proof.trace import derivation, values
from app.proof.trace.record_position import RecordPosition
from app.proof.trace.report import Step, Trace, differs, holds, noted, tree, unreachable
from tests.support.bank.bank_day import account, customer, transaction
from tests.support.bank.cdc import CdcLog, Record
from tests.support.streams.topology_driver import TopologyDriver

AT = "2026-03-02T09:00:00.000000Z"


def bank() -> tuple[dict[RecordPosition, Record], TopologyDriver]:
    """A few changes, and the agents' records for them."""
    customers, accounts, booked = (
        CdcLog("customers", "customer_id"),
        CdcLog("accounts", "account_id"),
        CdcLog("transactions", "account_id"),
    )
    first = customer(1, AT)
    records = [
        customers.change("c", after=first),
        accounts.change("c", after=account(10, 1, AT)),
        customers.change("u", before=first, after=first | {"city": "Bergen"}),
        *(
            booked.change("c", after=transaction(100 + n, 10, AT, amount=amount))
            for n, amount in enumerate(("1.00", "12000.00"))
        ),
        customers.change("d", before=first | {"city": "Bergen"}),
    ]
    streams = TopologyDriver()
    streams.take(*records)
    return {RecordPosition(it.topic, it.partition, it.offset): it for it in records}, streams


def judged(topic: str, value: dict[str, Any], records: dict[RecordPosition, Record]) -> list[str]:
    """The differences that a trace finds in a record of a topic."""
    record = derivation.read_derived(topic, json.dumps(value).encode())
    origin = derivation.origin(record)
    change = derivation.read_change(origin, records[origin].value)
    return [check.what for check in derivation.checks(topic, record, change) if check.verdict == "differs"]


def test_a_trace_of_any_agent_output_finds_no_difference() -> None:
    records, streams = bank()
    topics = ("bank.scd2.customers", "bank.scd2.accounts", "bank.transactions", "bank.velocity", "bank.alerts")
    counts = {topic: len(streams.values(topic)) for topic in topics}
    assert all(counts.values()), counts
    for topic in topics:
        for value in streams.values(topic):
            assert judged(topic, value, records) == [], topic


@pytest.mark.parametrize(
    ("topic", "index", "edit", "told"),
    [
        ("bank.scd2.customers", 0, {"version_id": "0" * 32}, "version_id is"),
        ("bank.scd2.customers", 0, {"key": {"customer_id": 2}}, "version_id is"),
        ("bank.scd2.customers", 0, {"valid_from": "2020-01-01T00:00:00.000000Z"}, "before the commit"),
        ("bank.scd2.customers", 0, {"attributes": {"customer_id": 1}}, "attributes that differ from the row"),
        ("bank.scd2.customers", 1, {"reason": "deleted"}, "cannot close a version as deleted"),
        ("bank.transactions", 0, {"amount": "1.01"}, "columns that differ from those of the changed row: amount"),
        ("bank.velocity", 0, {"account_id": 11}, "columns that differ from those of the changed row: account_id"),
        ("bank.velocity", 0, {"event_time": "2026-03-02T09:00:00.000001Z"}, "booked_at"),
        ("bank.alerts", 0, {"rule": "other"}, "alert_id is"),
    ],
)
def test_a_field_that_was_changed_differs(topic: str, index: int, edit: dict[str, Any], told: str) -> None:
    records, streams = bank()
    wrong = judged(topic, streams.values(topic)[index] | edit, records)
    assert any(told in line for line in wrong), wrong


@pytest.mark.parametrize("edit", [{"lsn": 1}, {"tx_id": 1}, {"commit_time": AT}, {"lsn": None}])
def test_a_source_that_was_changed_differs(edit: dict[str, Any]) -> None:
    records, streams = bank()
    value = streams.values("bank.transactions")[0]
    wrong = judged("bank.transactions", value | {"source": value["source"] | edit}, records)
    assert any(line.startswith("says LSN") for line in wrong), wrong


def test_a_time_that_was_raised_above_the_commit_time_is_noted() -> None:
    records, streams = bank()
    value = streams.values("bank.scd2.customers")[0] | {"valid_from": "2030-01-01T00:00:00.000000Z"}
    record = derivation.read_derived("bank.scd2.customers", json.dumps(value).encode())
    origin = derivation.origin(record)
    change = derivation.read_change(origin, records[origin].value)
    assert isinstance(change, RowChange)
    assert "ran backwards" in next(
        it.what for it in derivation.checks("bank.scd2.customers", record, change) if it.verdict == "noted"
    )


@pytest.mark.parametrize("value", [None, b"\x00", b"{}", b'{"op":"m","source":{"table":"customers"}}'])
def test_a_source_record_that_is_no_change_is_reported(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        derivation.read_change(RecordPosition("bank.public.customers", 0, 0), value)


@pytest.mark.parametrize(
    ("column", "value", "same"),
    [
        (Decimal("12.50"), "12.5", True), (Decimal("12.50"), "12.51", False), (7, Decimal(7), True), (True, True, True),
        (True, "true", False), ("true", True, True), ("True", True, False), ("f", False, False), (float("nan"), "NaN", True),
        (None, None, True), (None, "", False), ("", None, False), (None, "infinity", True), ("a", "a", True), ("a", "A", False),
        (datetime(2026, 3, 2, 9, 0, 0, 500_000), "2026-03-02T09:00:00.500000Z", True),  # noqa: DTZ001 - as TIMESTAMP_NTZ comes
        (datetime(2026, 3, 2, 9, 0, 0, 500_001), "2026-03-02T09:00:00.500000Z", False),  # noqa: DTZ001
        (date(1815, 12, 10), "1815-12-10Z", True), ('["b", "a"]', ["b", "a"], True), ('["a", "b"]', ["b", "a"], False),
        ('{"x": 1.0, "y": null}', {"y": None, "x": Decimal(1)}, True), ('{"x": 1}', {"x": True}, False),
    ],
)  # fmt: skip
def test_a_column_equals_its_source_value_only_if_both_have_the_same_meaning(
    column: Any, value: Any, same: bool
) -> None:
    assert values.column_equals(column, value) is same


@pytest.mark.parametrize(
    ("checks", "verdict", "code"),
    [
        ((holds("a"), noted("b")), "holds", 0), ((holds("a"), unreachable("b")), "unreachable", 2),
        ((unreachable("a"), differs("b")), "differs", 1), ((), "noted", 0),
    ],
)  # fmt: skip
def test_the_worst_step_decides_the_verdict(checks: tuple[Any, ...], verdict: str, code: int) -> None:
    way = Step("row", "here", steps=(Step("object", "there", checks),))
    found = Trace("t", "k", way.verdict, way, 0.1)
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert bool(found.differences()) is (code == 1)


def test_terminal_escapes_in_a_record_are_not_printed() -> None:
    console = Console(width=120, force_terminal=False)
    way = Step("row", "a\x1b[2Jb", (differs("c\rd"),))
    with console.capture() as shown:
        console.print(tree(Trace("t", "k", way.verdict, way, 0.0)))
    assert "\x1b[2J" not in shown.get()
    assert "\r" not in shown.get()
