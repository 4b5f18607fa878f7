"""Tests that each mistake in landed data makes the build fail in the dbt tests for that mistake, and in no others."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from app.local.stack.part import Part
from app.operations.dbt.build import BuildResult, build
from tests.support.bank.bank_day import account, customer, transaction
from tests.support.bank.bank_log import BankLog, iso
from tests.support.machine.stack import StackPool
from tests.support.warehouse.landing import Landing, landing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Record = dict[str, Any]
History = dict[str, list[Record]]


@pytest.fixture(scope="module")
def sound() -> History:
    """Two customers with one account each, one of whom moves twice; a third who is created and deleted; and three transactions."""
    log = BankLog()
    for key in (1, 2):
        log.insert("customers", **customer(key, iso(log.clock)))
        log.insert("accounts", **account(key * 10, key, iso(log.clock)))
    log.update("customers", 1, city="Bergen")
    log.update("customers", 1, city="Oslo")
    log.insert("customers", **customer(3, iso(log.clock)))
    log.delete("customers", 3)
    for key in (100, 101, 102):
        log.insert("transactions", **transaction(key, 10, iso(log.clock)))
        log.velocity(key)
    log.alert(102)
    return own_copy(log.take())


def own_copy(history: History) -> History:
    """A deep copy of each record, so that a mistake in one is not in another."""
    copied: History = json.loads(json.dumps(history))
    return copied


def versions(history: History, op: str, customer_id: int = 1) -> list[Record]:
    """The landed open or close records of a customer."""
    return [
        record
        for record in history["SCD2_CUSTOMERS"]
        if record["value"]["op"] == op and record["value"]["key"] == {"customer_id": customer_id}
    ]


def inserted(history: History, transaction_id: int) -> Record:
    """The raw change that inserted a transaction, to be modified."""
    (found,) = (
        record
        for record in history["CDC_EVENTS"]
        if record["topic"] == "bank.public.transactions"
        and record["value"]["after"]["transaction_id"] == transaction_id
    )
    row: Record = found["value"]["after"]
    return row


def again(history: History, landing_table: str, record: Record) -> None:
    """Appends a record again at the end of its partition."""
    place = record["topic"], record["partition"]
    last = max(r["offset"] for r in history[landing_table] if (r["topic"], r["partition"]) == place)
    history[landing_table].append(deepcopy(record) | {"offset": last + 1})


def overlap(history: History) -> None:
    versions(history, "close")[0]["value"]["valid_to"] = "2026-03-02T23:00:00.000000Z"


def gap(history: History) -> None:
    close = versions(history, "close")[0]["value"]
    close["valid_to"] = close["valid_from"]


def doubled_open(history: History) -> None:
    again(history, "SCD2_CUSTOMERS", versions(history, "open")[1])


def lost_close(history: History) -> None:
    history["SCD2_CUSTOMERS"].remove(versions(history, "close")[0])


def lost_open(history: History) -> None:
    history["SCD2_CUSTOMERS"].remove(versions(history, "open")[0])


def version_never_opened(history: History) -> None:
    history["SCD2_CUSTOMERS"].remove(versions(history, "open", 2)[0])


def wrong_attribute(history: History) -> None:
    versions(history, "open")[-1]["value"]["attributes"]["city"] = "Elsewhere"


def wrong_reason(history: History) -> None:
    versions(history, "open")[1]["value"]["reason"] = "revived"


def nothing_tracked_changed(history: History) -> None:
    versions(history, "open")[1]["value"]["changed"] = ["updated_at"]


def opened_twice_by_one_change(history: History) -> None:
    first, *_, last = versions(history, "open")
    last["value"]["source"] = first["value"]["source"]


def opened_by_a_replay(history: History) -> None:
    """The second move is replayed, and the version names the replay as its source."""
    last = versions(history, "open")[-1]["value"]["source"]
    (change,) = (
        r
        for r in history["CDC_EVENTS"]
        if (r["topic"], r["offset"], r["partition"]) == (last["topic"], last["offset"], last["partition"])
    )
    again(history, "CDC_EVENTS", change)
    last["offset"] = history["CDC_EVENTS"][-1]["offset"]


def outlived_a_delete(history: History) -> None:
    history["SCD2_CUSTOMERS"].remove(versions(history, "close", 3)[0])


def closed_before_it_was_opened(history: History) -> None:
    opened, closed = versions(history, "open")[0], versions(history, "close")[0]
    opened["offset"], closed["offset"] = closed["offset"], opened["offset"]


def closed_for_nothing(history: History) -> None:
    """The stream closes the version of a customer who exists."""
    opened = versions(history, "open", 2)[0]
    again(history, "SCD2_CUSTOMERS", opened)
    value = history["SCD2_CUSTOMERS"][-1]["value"]
    value |= {"op": "close", "valid_to": value["valid_from"], "reason": "deleted"}


def rewritten_history(history: History) -> None:
    """The last version is moved before the previous one, as if a late event had been inserted into the history."""
    versions(history, "open")[-1]["value"]["valid_from"] = "2026-03-02T08:00:00.000000Z"


def other_amount_in_the_stream(history: History) -> None:
    history["TRANSACTIONS"][1]["value"]["amount"] = "12.51"


def float_amount(history: History) -> None:
    inserted(history, 101)["amount"] = 12.5


def unknown_status(history: History) -> None:
    inserted(history, 101)["status"] = "lost"


def orphan_transaction(history: History) -> None:
    inserted(history, 101)["account_id"] = 999


def doubled_row(landing_table: str) -> Callable[[History], None]:
    """A log record has landed twice."""

    def change(history: History) -> None:
        history[landing_table].append(deepcopy(history[landing_table][-1]))

    return change


def doubled_alert(history: History) -> None:
    again(history, "ALERTS", history["ALERTS"][0])


def refused_in_silence(history: History) -> None:
    again(history, "CDC_EVENTS", history["CDC_EVENTS"][-1] | {"value": {"op": "?"}})


CUSTOMERS = "+dim_customer +customers"
SNAPSHOTS = "+dim_customer +customer_snapshots"
STATES = "+fct_transaction_states +transactions"
TRANSACTIONS = "+transactions +accounts +customers"
ALERTS = "+fct_alerts"


@dataclass(frozen=True)
class Mistake:
    """A mistake in a correct history, the models to build, and the tests that must fail; no others may fail."""

    change: Callable[[History], None]
    select: str
    named: frozenset[str]


def mistake(change: Callable[[History], None], select: str, *named: str, name: str = "") -> Any:
    return pytest.param(Mistake(change, select, frozenset(named)), id=name or change.__name__)


@pytest.mark.parametrize(
    "case",
    [
        mistake(overlap, CUSTOMERS, "no_overlap_dim_customer", "no_gap_dim_customer", "in_order_dim_customer"),
        mistake(gap, CUSTOMERS, "no_gap_dim_customer"),
        mistake(doubled_open, CUSTOMERS, "unique_together_customer_version_records_version_id__operation"),
        mistake(
            lost_close, CUSTOMERS, "no_overlap_dim_customer", "no_gap_dim_customer", "open_exactly_while_alive_dim_customer",
            "last_version_is_current_state_dim_customer", "begins_for_a_reason_dim_customer",
        ),
        mistake(lost_open, CUSTOMERS, "closes_an_open_version_customer_version_records"),
        mistake(version_never_opened, CUSTOMERS, "open_exactly_while_alive_dim_customer"),
        mistake(wrong_reason, CUSTOMERS, "begins_for_a_reason_dim_customer"),
        mistake(nothing_tracked_changed, CUSTOMERS, "a_tracked_column_changed_dim_customer"),
        mistake(opened_twice_by_one_change, CUSTOMERS, "opened_by_news_dim_customer", "in_order_dim_customer"),
        mistake(opened_by_a_replay, CUSTOMERS, "opened_by_news_dim_customer"),
        mistake(closed_before_it_was_opened, CUSTOMERS, "closes_an_open_version_customer_version_records"),
        mistake(rewritten_history, CUSTOMERS, "in_order_dim_customer", "no_gap_dim_customer", "no_overlap_dim_customer"),
        mistake(
            wrong_attribute, SNAPSHOTS, "last_version_is_current_state_dim_customer", "agrees_with_versions_customer_snapshots",
        ),
        mistake(
            outlived_a_delete, SNAPSHOTS, "a_delete_closes_dim_customer", "open_exactly_while_alive_dim_customer",
            "agrees_with_versions_customer_snapshots",
        ),
        mistake(
            closed_for_nothing, SNAPSHOTS, "open_exactly_while_alive_dim_customer", "agrees_with_versions_customer_snapshots",
        ),
        mistake(other_amount_in_the_stream, STATES, "stream_has_it_fct_transaction_states"),
        mistake(float_amount, TRANSACTIONS, "never_null_transactions", "holds_transactions_amount_0"),
        mistake(unknown_status, TRANSACTIONS, "accepted_values_transactions_status"),
        mistake(orphan_transaction, TRANSACTIONS, "refers_to_transactions_account_id"),
        mistake(
            doubled_row("CDC_EVENTS"), "transaction_changes", "unique_together_transaction_changes",
            "loaded_completely_transaction_changes", name="doubled_raw_row",
        ),
        mistake(doubled_alert, ALERTS, "unique_fct_alerts_alert_id"),
        mistake(refused_in_silence, "dead_letters", "refused_is_a_dead_letter_dead_letters"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_test(case: Mistake, sound: History, tables: Landing) -> None:
    history = deepcopy(sound)
    case.change(history)
    result = built(history, case.select, tables)
    assert not result.ok
    failed = {problem.name for problem in result.problems}
    missing = {name for name in case.named if not any(test.startswith(name) for test in failed)}
    others = {test for test in failed if not any(test.startswith(name) for name in case.named)}
    assert (missing, others) == (set(), set())
    assert all(problem.status == "fail" for problem in result.problems)


def test_without_a_mistake_the_same_history_passes(sound: History, tables: Landing) -> None:
    assert built(sound, "+gold +resource_type:snapshot", tables).problems == ()


def test_only_the_snapshots_show_that_an_old_version_was_altered(tables: Landing) -> None:
    """A snapshot run saw the row before it changed. Current rows agree and the records are in order, so no other test fails."""
    log = BankLog()
    log.insert("customers", **customer(1, iso(log.clock)))
    first = own_copy(log.take())
    wrong_attribute(first)
    tables.renew()
    tables.land(first)
    assert build(tables.environment, settle_seconds=0, select=SNAPSHOTS.split(), data_tests=False).ok
    log.update("customers", 1, city="Bergen")
    tables.land(log.take())
    (found,) = build(tables.environment, settle_seconds=0, select=SNAPSHOTS.split()).problems
    assert found.name.startswith("agrees_with_versions_customer_snapshots")
    assert (found.status, found.rows) == ("fail", 1)


@pytest.fixture(scope="module")
def tables(stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landing]:
    """One database and one working directory of dbt for all tests."""
    with landing(stack_pool.get(Part.S3, Part.WAREHOUSE), tmp_path_factory.mktemp("home")) as own:
        yield own


def built(history: History, select: str, tables: Landing) -> BuildResult:
    """The result of a build of this history alone."""
    tables.renew()
    tables.land(history)
    return build(tables.environment, settle_seconds=0, select=select.split())
