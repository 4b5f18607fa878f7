"""Tests the contents of the models that dbt builds on the local warehouse from a bank's history."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest

from app.local.stack.part import Part
from app.operations.dbt.build import BuildResult, build
from tests.support.bank.bank_day import LARGEST, ordinary_day
from tests.support.bank.bank_log import BankLog
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import StackPool
from tests.support.warehouse.dbt_project import Manifest
from tests.support.warehouse.landing import Landing, landing

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@dataclass
class Day:
    """A history that is landed, with the models built."""

    log: BankLog
    tables: Landing
    result: BuildResult
    manifest: Manifest


@pytest.fixture(scope="module")
def tables(stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landing]:
    with landing(stack_pool.get(Part.S3, Part.WAREHOUSE), tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="module")
def day(tables: Landing) -> Day:
    log = BankLog()
    ordinary_day(log)
    tables.land(log.take())
    result = build(tables.environment, settle_seconds=0, unit_tests=True)
    return Day(log, tables, result, Manifest.of(tables.home))


def test_an_ordinary_day_builds_and_passes_every_test(day: Day) -> None:
    assert day.result.problems == ()
    assert day.result.ok
    assert day.result.passed > 100


def test_current_rows_equal_the_source(day: Day) -> None:
    for table, key in (("CUSTOMERS", "customer_id"), ("ACCOUNTS", "account_id"), ("TRANSACTIONS", "transaction_id")):
        held = {row[0] for row in day.tables.rows(f"SILVER.{table}", key)}
        assert held == set(day.log.rows[table.lower()]), table
    balances = dict(day.tables.rows("SILVER.ACCOUNTS", "account_id", "balance"))
    assert balances[21] == Decimal("-12.50")


def test_every_version_has_an_end_except_the_current_ones(day: Day) -> None:
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
def test_a_transaction_is_joined_to_the_customer_version_valid_at_its_time(
    day: Day, transaction: int, city: str, match: str, why: str
) -> None:
    found = day.tables.run(
        f"SELECT c.city, t.customer_version_match FROM {day.tables.name}.GOLD.FCT_TRANSACTIONS t "  # noqa: S608 - our own
        f"JOIN {day.tables.name}.GOLD.DIM_CUSTOMER c ON c.customer_version_id = t.customer_version_id "
        f"WHERE t.transaction_id = {transaction}"
    )
    assert found == [(city, match)], why


def test_a_late_transaction_is_joined_to_the_version_valid_when_it_was_booked(day: Day) -> None:
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


def test_every_gold_row_names_its_source_change(day: Day) -> None:
    known = {(record["topic"], record["partition"], record["offset"]) for record in day.log.history["CDC_EVENTS"]}
    naming = [node for node in day.manifest.built if node.schema == "GOLD" and "source_topic" in node.columns]
    assert {"dim_customer", "fct_transactions"} <= {node.name for node in naming}
    for node in naming:
        positions = set(day.tables.rows(node.relation, "source_topic", "source_partition", "source_offset"))
        assert positions, node.name
        assert positions <= known, node.name


def test_a_snapshot_has_every_current_row_once(day: Day) -> None:
    found = day.tables.rows("SILVER.CUSTOMER_SNAPSHOTS", "customer_id", "dbt_valid_to")
    assert found == [(key, None) for key in sorted(day.log.rows["customers"], key=str)]


def test_customer_360_has_all_figures_of_a_customer(day: Day) -> None:
    found = day.tables.rows(
        "GOLD.CUSTOMER_360", "version_count", "account_count", "transaction_count", "credit_count", "declined_count", "alert_count",
        where="customer_id = 1",
    )  # fmt: skip
    assert found == [(2, 1, 4, 3, 0, 1)]


def test_the_states_of_a_transaction_are_in_order(day: Day) -> None:
    states = day.tables.rows(
        "GOLD.FCT_TRANSACTION_STATES", "record_offset", "operation", "status", "is_last", where="transaction_id = 105"
    )
    assert [row[1:] for row in states] == [("created", "pending", False), ("updated", "posted", True)]


def test_dead_letters_are_counted_by_reason(day: Day) -> None:
    assert day.tables.rows("GOLD.DEAD_LETTERS_BY_REASON", "reason", "sum(letters)", where="true group by reason") == [
        ("not_an_envelope", 3)
    ]


def test_every_landing_table_has_a_model_in_gold(day: Day) -> None:
    sources = {source.name.upper(): source for source in day.manifest.sources.values()}
    assert {topic.landing for topic in CATALOGUE.landed} == set(sources)
    for source in sources.values():
        one_shape = source.name in ("velocity", "alerts")  # gold is built directly from bronze
        wanted = {"GOLD"} if one_shape else {"SILVER", "GOLD"}
        assert wanted <= {node.schema for node in day.manifest.readers(source.unique_id)}, source.name


def test_everything_is_described_and_has_an_owner(day: Day) -> None:
    owners = {group.name for group in day.manifest.groups.values() if group.owner.get("name")}
    assert owners
    for node in day.manifest.built:
        assert node.description, node.name
        assert node.group in owners, node.name
        for name, column in node.columns.items():
            assert column.description, f"{node.name}.{name}"
            assert column.data_type, f"{node.name}.{name}"
        made = {name.lower() for name in day.tables.columns(node.relation)}
        assert made == set(node.columns), node.name
    for exposure in day.manifest.exposures.values():
        assert exposure.description
        assert exposure.owner.get("name")


def test_a_build_with_nothing_new_changes_nothing(day: Day) -> None:
    before = {relation: day.tables.contents(relation) for relation in day.manifest.relations()}
    assert build(day.tables.environment, settle_seconds=0, data_tests=False).ok
    assert {relation: day.tables.contents(relation) for relation in day.manifest.relations()} == before


def test_changes_that_the_streams_refused_are_skipped(day: Day) -> None:
    assert len(day.tables.rows("SILVER.DEAD_LETTERS", "topic")) == 3
    refused = set(day.tables.rows("SILVER.DEAD_LETTERS", "topic", "partition_number", "offset_number"))
    for table in ("CUSTOMER", "ACCOUNT", "TRANSACTION"):
        positions = day.tables.rows(f"SILVER.{table}_CHANGES", "source_topic", "source_partition", "source_offset")
        assert not refused & set(positions)
