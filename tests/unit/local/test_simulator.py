"""Tests the simulated bank's plan: it is repeatable, keeps the rules of the database, and labels its frauds correctly."""

from collections import defaultdict
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from app.domain.money import to_minor
from app.local.simulator import statements as sql
from app.local.simulator.bank_state import SHARDS
from app.local.simulator.fraud import PATTERNS
from app.local.simulator.simulation import SimulationOptions
from app.local.simulator.statements import Statement, Work
from app.local.simulator.work_queue import WorkQueue
from tests.support.bank.simulated import FakeDatabase, FakeSequenceIds, planned, populated


def work(number: int, *, rolled_back: bool = False) -> Work:
    return Work(0, (Statement(sql.DELETE_ACCOUNT, (number,)),), rolled_back=rolled_back)


def test_the_same_seed_plans_the_same() -> None:
    assert planned(7, 300, fraud_rate=0.02)[0] == planned(7, 300, fraud_rate=0.02)[0]
    assert planned(7, 300)[0] != planned(8, 300)[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_never_breaks_a_rule_of_the_database(seed: int) -> None:
    works, database = planned(seed, 3_000, customers=150)
    assert sum(work.inserted for _, work in works) == 3_000
    assert len(database.transactions) < 3_000, "some were deleted"
    kinds = {statement.kind for _, work in works for statement in work.statements}
    assert kinds >= {
        sql.INSERT_CUSTOMER, sql.INSERT_ACCOUNT, sql.MOVE_HOME, sql.CHANGE_EMAIL, sql.RATE_RISK, sql.CHECK_KYC, sql.SETTLE, sql.REVERSE,
        sql.SET_ACCOUNT_STATUS, sql.DELETE_TRANSACTION, sql.DELETE_ACCOUNT,
    }  # fmt: skip
    assert any(work.rolled_back for _, work in works)
    assert any(work.inserted > 1 for _, work in works)


def test_the_rows_of_one_work_belong_to_customers_of_one_shard() -> None:
    owners: dict[int, int] = FakeDatabase().accounts
    numbers, random, database = FakeSequenceIds(), Random(3), FakeDatabase()
    populated(random, numbers, 60, database)
    owners.update(database.accounts)
    checked = 0
    for _, done in planned(3, 2_000)[0]:
        for statement in done.statements:
            if statement.kind is sql.INSERT_ACCOUNT:
                owners[statement.values[0]] = statement.values[1]
            if statement.kind is sql.INSERT_TRANSACTION:
                assert owners[statement.values[1]] % SHARDS == done.shard
                checked += 1
    assert checked >= 2_000


def test_an_account_is_never_moved_by_more_than_what_its_rows_say() -> None:
    checked = 0
    for _, done in planned(5, 1_000)[0]:
        moved: dict[int, Decimal] = defaultdict(Decimal)
        booked: dict[int, Decimal] = defaultdict(Decimal)
        for statement in done.statements:
            values = statement.values
            if statement.kind is sql.MOVE_BALANCE:
                moved[values[1]] += Decimal(values[0])
            if statement.kind is sql.INSERT_TRANSACTION and values[5] != "declined":
                booked[values[1]] += Decimal(values[3]) * (1 if values[2] == "credit" else -1)
        if booked:  # a settled, reversed or deleted transaction moves a balance by rows of earlier works
            assert moved == booked
            checked += 1
    assert checked > 500


def test_ordinary_payments_look_like_no_fraud() -> None:
    _, database = planned(1, 5_000, customers=400)
    debits = [to_minor(row[3]) for row in database.transactions.values() if row[2] == "debit"]
    credit = [to_minor(row[3]) for row in database.transactions.values() if row[2] == "credit"]
    assert min(debits) > 200
    assert max(debits + credit) < 900_000
    assert sum(amount > 50_000 for amount in debits) < len(debits) * 0.003
    assert not database.labels


@pytest.mark.parametrize("seed", range(3))
def test_every_fraud_is_what_its_label_says(seed: int) -> None:
    works, database = planned(seed, 3_000, fraud_rate=0.01, customers=500)
    inserted = {
        statement.values[0]: (at, statement.values)
        for at, done in works
        for statement in done.statements
        if statement.kind is sql.INSERT_TRANSACTION
    }
    frauds: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for label in database.labels:
        frauds[label[2]].append(label)
    complete = {name: labels for name, labels in frauds.items() if labels[-1][5]}
    assert {labels[0][1] for labels in complete.values()} == set(PATTERNS)
    assert sum(work.frauds for _, work in works) == len(frauds)
    for labels in complete.values():
        assert [label[5] for label in labels] == [False] * (len(labels) - 1) + [True]
        rows = [inserted[label[0]][1] for label in labels]
        amounts = [to_minor(row[3]) for row in rows]
        assert {row[2] for row in rows} == {"debit"}
        assert {row[5] for row in rows} <= {"pending", "posted"}
        assert len({row[1] for row in rows}) == 1
        took_s = inserted[labels[-1][0]][0] - inserted[labels[0][0]][0]
        match labels[0][1]:
            case "card_testing":
                assert len(amounts) >= 4
                assert max(amounts[:-1]) <= 200
                assert amounts[-1] >= 10_000
                assert took_s < 300
            case "velocity_burst":
                assert len(amounts) >= 10
                assert took_s < 60
            case "large_amount":
                assert amounts[0] >= 1_000_000


def test_the_default_rate_gives_several_frauds_a_minute_at_fifty_a_second() -> None:
    counts = [sum(done.frauds for _, done in planned(s, 3_000, fraud_rate=0.003, customers=500)[0]) for s in range(4)]
    assert 4 <= sum(counts) / len(counts) <= 15


@pytest.mark.parametrize(("rate", "shared"), [(1, 1), (50, 1), (200, 1), (1_000, 5), (5_000, 25)])
def test_works_share_a_sql_transaction_only_when_the_rate_demands_it(rate: float, shared: int) -> None:
    assert SimulationOptions(rate, None, 0, 0, 1).works_per_commit == shared


def test_a_queue_returns_works_in_order_and_a_rolled_back_one_alone() -> None:
    line = WorkQueue()
    for number, rolled_back in ((1, False), (2, False), (3, True), (4, False)):
        assert line.put(work(number, rolled_back=rolled_back), 0)
    line.close(drop=False)
    taken = [[done.statements[0].values[0] for done in line.take(10)] for _ in range(4)]
    assert taken == [[1, 2], [3], [4], []]


def test_a_queue_returns_no_more_than_requested_and_refuses_more_than_its_length() -> None:
    line = WorkQueue(length=3)
    assert [line.put(work(number), 0) for number in range(4)] == [True, True, True, False]
    assert len(line.take(2)) == 2
    assert line.put(work(9), 0)


def test_a_stopped_queue_drops_its_works() -> None:
    line = WorkQueue()
    line.put(work(1), 0)
    line.close(drop=True)
    assert line.take(5) == []
