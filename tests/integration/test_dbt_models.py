"""The warehouse's models, built by dbt on the local warehouse from a bank's history: what they say, and which mistakes they catch."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest

from app.stack.part import Part
from app.warehouse_models import BuildResult, build
from tests.support.bank_day import LARGEST, ordinary_day, second_day
from tests.support.bank_log import BankLog
from tests.support.landing import Landing, landing
from tests.support.stack import StackPool

pytestmark = pytest.mark.integration

MODELS = (
    "SILVER.CUSTOMER_CHANGES", "SILVER.ACCOUNT_CHANGES", "SILVER.TRANSACTION_CHANGES", "SILVER.CUSTOMERS", "SILVER.ACCOUNTS",
    "SILVER.TRANSACTIONS", "SILVER.DEAD_LETTERS", "SILVER.CUSTOMER_VERSION_RECORDS", "SILVER.ACCOUNT_VERSION_RECORDS", "GOLD.DIM_CUSTOMER",
    "GOLD.DIM_ACCOUNT", "GOLD.FCT_TRANSACTIONS", "GOLD.VOLUME_PER_MINUTE", "GOLD.FCT_ALERTS", "GOLD.FCT_VELOCITY",
)  # fmt: skip


@dataclass
class Day:
    """A history that was landed and built."""

    log: BankLog
    tables: Landing
    result: BuildResult


@pytest.fixture(scope="module")
def tables(stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landing]:
    with landing(stack_pool.get(Part.S3, Part.WAREHOUSE), tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="module")
def day(tables: Landing) -> Day:
    log = BankLog()
    ordinary_day(log)
    tables.land(log.take())
    return Day(log, tables, build(tables.environment, settle_seconds=0, unit_tests=True))


def test_an_ordinary_day_builds_and_passes_every_test(day: Day) -> None:
    assert day.result.problems == ()
    assert day.result.ok
    assert day.result.passed > 100


def test_current_state_is_what_the_source_holds(day: Day) -> None:
    for table, key in (("CUSTOMERS", "customer_id"), ("ACCOUNTS", "account_id"), ("TRANSACTIONS", "transaction_id")):
        held = {row[0] for row in day.tables.rows(f"SILVER.{table}", key)}
        assert held == set(day.log.rows[table.lower()]), table
    balances = dict(day.tables.rows("SILVER.ACCOUNTS", "account_id", "balance"))
    assert balances[21] == Decimal("-12.50")


def test_every_version_has_its_end_and_the_current_ones_none(day: Day) -> None:
    found = day.tables.rows(
        "GOLD.DIM_CUSTOMER", "customer_id", "version_number", "open_reason", "close_reason", "is_current"
    )
    assert found == [
        (1, 1, "created", "superseded", False),
        (1, 2, "updated", None, True),
        (2, 1, "created", "superseded", False),
        (2, 2, "updated", None, True),
        (3, 1, "created", "deleted", False),
        (3, 2, "revived", "key_changed", False),
        (4, 1, "created", None, True),
        (5, 1, "created", "deleted", False),
        (50, 1, "key_changed", None, True),
        (6, 1, "created", "vanished", False),
    ]


@pytest.mark.parametrize(
    ("transaction", "city", "match", "why"),
    [
        (100, "München", "valid_at_event", "booked before the customer moved"),
        (103, "Bergen", "valid_at_event", "booked after the customer moved"),
        (104, "München", "before_first_version", "booked a year before history begins: the first version, flagged"),
        (108, "München", "before_first_version", "booked just before the account was opened"),
    ],
)
def test_a_transaction_meets_the_customer_of_its_instant(
    day: Day, transaction: int, city: str, match: str, why: str
) -> None:
    found = day.tables.run(
        f"SELECT c.city, t.customer_version_match FROM {day.tables.name}.GOLD.FCT_TRANSACTIONS t "  # noqa: S608 - our own
        f"JOIN {day.tables.name}.GOLD.DIM_CUSTOMER c ON c.customer_version_id = t.customer_version_id "
        f"WHERE t.transaction_id = {transaction}"
    )
    assert found == [(city, match)], why


def test_a_late_transaction_meets_the_version_that_was_current_when_it_was_booked(day: Day) -> None:
    [(email, current)] = day.tables.run(
        f"SELECT c.email, c.is_current FROM {day.tables.name}.GOLD.FCT_TRANSACTIONS t "  # noqa: S608 - our own
        f"JOIN {day.tables.name}.GOLD.DIM_CUSTOMER c ON c.customer_version_id = t.customer_version_id "
        f"WHERE t.transaction_id = 107"
    )
    assert (email, current) == ("customer2@example.org", False)


def test_money_is_exact_to_the_last_cent(day: Day) -> None:
    found = day.tables.rows(
        "GOLD.VOLUME_PER_MINUTE", "credit_amount", "debit_amount", "net_amount", where="credit_count = 4"
    )
    credit, debit = 2 * Decimal(LARGEST) + Decimal("250.01"), Decimal("12.53")
    assert found == [(credit, debit, credit - debit)]


def test_every_gold_row_names_the_change_it_was_made_from(day: Day) -> None:
    known = {(record["topic"], record["partition"], record["offset"]) for record in day.log.history["CDC_EVENTS"]}
    for table in (model for model in MODELS if model.startswith("GOLD")):
        positions = set(day.tables.rows(table, "source_topic", "source_partition", "source_offset"))
        assert positions
        assert positions <= known, table


def test_a_build_with_nothing_new_changes_nothing(day: Day) -> None:
    before = {model: day.tables.rows(model) for model in MODELS}
    assert build(day.tables.environment, settle_seconds=0).ok
    assert {model: day.tables.rows(model) for model in MODELS} == before


def test_what_the_streams_refused_is_passed_over(day: Day) -> None:
    assert len(day.tables.rows("SILVER.DEAD_LETTERS", "topic")) == 3
    refused = set(day.tables.rows("SILVER.DEAD_LETTERS", "topic", "partition_number", "offset_number"))
    for table in ("CUSTOMER", "ACCOUNT", "TRANSACTION"):
        positions = day.tables.rows(f"SILVER.{table}_CHANGES", "source_topic", "source_partition", "source_offset")
        assert not refused & set(positions)


@pytest.fixture(scope="module")
def next_day(day: Day) -> Day:
    second_day(day.log)
    day.tables.land(day.log.take())
    return Day(day.log, day.tables, build(day.tables.environment, settle_seconds=0))


def test_a_second_day_is_added_to_the_first(next_day: Day) -> None:
    assert next_day.result.problems == ()
    held = {row[0] for row in next_day.tables.rows("SILVER.TRANSACTIONS", "transaction_id")}
    assert held == set(next_day.log.rows["transactions"]) == {200}


def test_step_by_step_gives_the_same_as_from_scratch(next_day: Day) -> None:
    step_by_step = {model: next_day.tables.rows(model) for model in MODELS}
    assert build(next_day.tables.environment, full_refresh=True, select=["resource_type:model"]).ok
    assert {model: next_day.tables.rows(model) for model in MODELS} == step_by_step
