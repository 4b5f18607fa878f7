"""Tests that the verifier finds lost, duplicated and wrong records and reports no correct one. Needs no stack."""

import random
from collections import defaultdict

import pytest
from aiokafka import TopicPartition

from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import ACCOUNTS, TRANSACTIONS
from app.engine.memory import EmittedRecord, MemoryPartition
from app.topology.handlers import build_topology
from tests.faults.capture_check import INJECTED, Captured
from tests.faults.confirmed_transactions import ConfirmedTransactions
from tests.faults.oracle import AccountsOracle, forwarded_account
from tests.faults.report import page
from tests.faults.results import FaultResult
from tests.faults.rows import table
from tests.faults.topic_check import Held, identity
from tests.faults.violations import Violations
from tests.support.bank.cdc import CdcLog, Record, envelope
from tests.support.catalogue import CATALOGUE

TP = TopicPartition("bank.alerts", 0)
SEED = 5


def accounts_and_transactions() -> tuple[list[Record], list[Record]]:
    """Accounts whose rows change between their transactions. Some transactions precede their account's row, some are repeated."""
    chance = random.Random(SEED)
    money, moves = CdcLog("accounts", "account_id"), CdcLog("transactions", "account_id", lsn=10**6)
    for step in range(400):
        account = chance.randrange(8)
        row = {"account_id": account, "customer_id": account, "currency": "EUR", "balance": f"{chance.randrange(3)}.00"}
        money.change("u" if step else "c", before=row, after=row)
        payment = {
            "transaction_id": step, "account_id": account if step % 9 else 7, "type": "credit", "amount": "5.00", "currency": "EUR",
            "status": "posted", "booked_at": "2026-03-02T09:00:00Z",
        }  # fmt: skip
        made = moves.change("c", after=payment)
        if step % 10 == 0:
            moves.again(made)
    return money.records, moves.records


def group() -> tuple[MemoryPartition, dict[str, object]]:
    composed = build_topology(CATALOGUE, WorkerSettings(), KafkaSettings().model_copy(update={"partitions": 1}))
    by_account, handlers = next(entry[:2] for entry in composed if entry[0].name == "by-account")
    return MemoryPartition(by_account, 0), dict(handlers)


def worker(money: list[Record], moves: list[Record], seed: int) -> list[EmittedRecord]:
    """The output of a worker that interleaves both topics in a random order."""
    chance = random.Random(seed)
    partition, handlers = group()
    queues, outputs = [list(money), list(moves)], list[EmittedRecord]()
    while any(queues):
        queue = chance.choice([queue for queue in queues if queue])
        count = chance.randint(1, 30)
        taken, queue[:] = queue[:count], queue[count:]
        outputs += partition.process(taken, handlers)  # type: ignore[arg-type]
    return [output for output in outputs if output.topic == TRANSACTIONS.name]


def explained(
    money: list[Record], moves: list[Record], actual: list[EmittedRecord]
) -> tuple[dict[int, list[bytes]], list[str]]:
    """The oracle's output for both topics, given the emitted records."""
    partition, handlers = group()
    oracle = AccountsOracle(partition, handlers)
    joined = {passed.source.offset: state for passed, state in map(forwarded_account, actual)}
    outputs = [output for emitted in oracle.process(money, moves, joined) for output in emitted]
    return by_account([output for output in outputs if output.topic == TRANSACTIONS.name]), oracle.unexplained


def by_account(outputs: list[EmittedRecord]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = defaultdict(list)
    for output in outputs:
        assert output.value is not None
        found[forwarded_account(output)[0].account_id].append(output.value)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_oracle_explains_any_order_of_the_topics(seed: int) -> None:
    money, moves = accounts_and_transactions()
    actual = worker(money, moves, seed)
    assert len(actual) == 400
    expected, unexplained = explained(money, moves, actual)
    assert unexplained == []
    assert (
        expected == by_account(actual)
    ) is True  # pytest would take minutes to show a difference of thousands of records


def test_the_oracle_rejects_an_account_state_that_was_already_replaced() -> None:
    money, moves = accounts_and_transactions()
    actual = worker(money, moves, seed=1)
    for output in actual[200:]:
        assert output.value is not None
        broken = output.value.replace(b'"balance":"2.00"', b'"balance":"9.00"')
        if broken != output.value:
            changed = EmittedRecord(output.topic, output.partition, output.key, broken, output.timestamp)
            actual[actual.index(output)] = changed
            break
    expected, unexplained = explained(money, moves, actual)
    assert unexplained
    assert expected != by_account(actual)


def alert(number: int, score: str = "0.5", clock: str = "2026-03-02T09:00:00Z") -> Record:
    value = '{"alert_id":"threshold:%d","score":"%s","detected_at":"%s"}' % (number, score, clock)  # noqa: UP031 - braces
    return Record("bank.alerts", value.encode(), b'{"customer_id":1}', offset=number)


def output(record: Record) -> EmittedRecord:
    return EmittedRecord(record.topic, record.partition, record.key, record.value, 0)


RIGHT = [alert(number) for number in range(6)]
WRONG = {
    "as it must be": (RIGHT, (0, 0, 0)),
    "another clock": ([alert(number, clock="2030-01-01T00:00:00Z") for number in range(6)], (0, 0, 0)),
    "one is lost": ([*RIGHT[:2], *RIGHT[3:]], (1, 0, 0)),
    "all are lost": ([], (6, 0, 0)),
    "one is doubled": ([*RIGHT[:3], RIGHT[2], *RIGHT[3:]], (0, 1, 0)),
    "one is doubled at the end": ([*RIGHT, RIGHT[2]], (0, 1, 0)),
    "one lost, another doubled": ([*RIGHT[:2], *RIGHT[3:], RIGHT[5]], (1, 1, 0)),
    "one has other content": ([*RIGHT[:2], alert(2, score="0.7"), *RIGHT[3:]], (0, 0, 1)),
    "a stranger": ([*RIGHT, alert(99)], (0, 1, 0)),
    "two have changed places": ([RIGHT[1], RIGHT[0], *RIGHT[2:]], (0, 0, 1)),
}


@pytest.mark.parametrize("case", WRONG)
def test_differences_between_a_topic_and_the_expected_records_are_counted(case: str) -> None:
    there, figures = WRONG[case]
    held, verdict = Held(TP), Violations()
    for start in range(0, 6, 2):  # as the verifier reads: as many records as are expected, then the rest
        held.compare([output(record) for record in RIGHT[start : start + 2]], there[start : start + 2])
    if there[6:]:
        held.compare([], there[6:])
    held.judge(verdict)
    assert (verdict.lost, verdict.doubled, verdict.wrong) == figures
    assert bool(verdict.details) == any(figures)


def test_records_of_one_change_are_distinguished_by_their_content() -> None:
    assert identity(b"k", b'{"op":"open","version_id":"1"}') != identity(b"k", b'{"op":"close","version_id":"1"}')


def change(xid: int, key: int, **headers: bytes) -> Record:
    value = envelope("accounts", "c", after={"account_id": key, "customer_id": 1}, tx_id=xid)
    return Record(ACCOUNTS.name, value, headers=tuple(headers.items()))


CAPTURED = {
    "as committed": ([change(1, 10), change(1, 11), change(2, 12)], (0, 0, 0)),
    "injected ones do not count": (
        [change(1, 10), change(1, 11), change(2, 12), change(2, 12, **{INJECTED: b"1"})],
        (0, 0, 0),
    ),
    "a row is lost": ([change(1, 10), change(2, 12)], (1, 0, 0)),
    "a transaction is lost": ([change(1, 10), change(1, 11)], (1, 0, 0)),
    "a row is doubled": ([change(1, 10), change(1, 11), change(1, 11), change(2, 12)], (0, 1, 0)),
    "another row": ([change(1, 10), change(1, 99), change(2, 12)], (0, 0, 1)),
    "a transaction that was rolled back": ([change(1, 10), change(1, 11), change(2, 12), change(3, 13)], (0, 1, 0)),
}


@pytest.mark.parametrize("case", CAPTURED)
def test_captured_changes_are_compared_with_committed_transactions(case: str) -> None:
    records, figures = CAPTURED[case]
    ledger, captured, verdict = ConfirmedTransactions(), Captured(), Violations()
    ledger.confirm(1, {("accounts", "c"): (2, 21)})
    ledger.confirm(2, {("accounts", "c"): (1, 12)})
    for record in records:
        captured.add("accounts", record)
    captured.settle(ledger, verdict)
    assert (verdict.lost, verdict.doubled, verdict.wrong) == figures


def test_a_transaction_that_is_captured_again_later_is_a_duplicate() -> None:
    ledger, captured, verdict = ConfirmedTransactions(), Captured(), Violations()
    ledger.confirm(2, {("accounts", "c"): (1, 12)})
    for figures in ((0, 0, 0), (0, 1, 0)):
        captured.add("accounts", change(2, 12))
        captured.settle(ledger, verdict)
        assert (verdict.lost, verdict.doubled, verdict.wrong) == figures


def test_the_page_has_a_line_for_every_row_and_marks_failed_ones() -> None:
    rows = table()
    text = page(
        [
            FaultResult("worker-killed", 1, "", "", fired=3, events=1_000, lost=2),
            FaultResult("random", 0, "", "", fired=9),
        ],
        rows,
    )
    assert all(f"**{name}**" in text for name in rows)
    assert "3 **did not hold** | 1,000 | 2 |" in text
