"""Tests that any input gives the correct result or a dead letter with a reason, and does not affect other records."""

import pytest

from tests.support.bank.cdc import CdcLog
from tests.support.bank.hostile import ACCOUNT, CASES, CUSTOMER, Case, outcome, page
from tests.support.paths import PROJECT
from tests.support.streams.topology_driver import TopologyDriver

PAGE = PROJECT / "docs" / "HOSTILE_INPUT.md"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_hostile_input_gives_the_result_in_the_table(case: Case) -> None:
    assert outcome(case.records()) == case.gives


@pytest.mark.parametrize("case", [case for case in CASES if "dead letter" in case.gives], ids=lambda case: case.what)
def test_a_dead_letter_does_not_affect_other_records(case: Case) -> None:
    streams, others, more = (
        TopologyDriver(),
        CdcLog("customers", "customer_id", lsn=10**6),
        CdcLog("accounts", "account_id", lsn=10**6),
    )
    hostile = case.records()
    streams.take(
        others.change("c", after=CUSTOMER | {"customer_id": 77}),
        *hostile,
        others.change("u", after=CUSTOMER | {"customer_id": 77, "name": "Eve"}),
        more.change("c", after=ACCOUNT | {"account_id": 78, "customer_id": 77}),
    )
    neighbours = [
        r["reason"]
        for topic in ("customers", "accounts")
        for r in streams.values(f"bank.scd2.{topic}")
        if {77, 78} & set(r["key"].values())
    ]
    assert neighbours == ["created", "superseded", "updated", "created"]


def test_the_page_says_what_the_tests_check() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "make it again: python -m tests.support.bank.hostile > docs/HOSTILE_INPUT.md"
    )
