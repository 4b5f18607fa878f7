"""Tests that incremental builds with late, changed and deleted data give the same models as one full build."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from app.local.stack.part import Part
from app.operations.dbt.build import PROJECT, BuildResult, build
from tests.support.bank.bank_day import ordinary_day, second_day, third_day
from tests.support.bank.bank_log import BankLog
from tests.support.machine.stack import StackPool
from tests.support.warehouse.dbt_project import Manifest
from tests.support.warehouse.landing import Landing, landing

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1_200)]

LATE = ("SCD2_CUSTOMERS", "SCD2_ACCOUNTS", "DEAD_LETTERS")
"""Landing tables that are loaded after the others on the third day, because their objects may be late."""


class Days:
    """Three days, each landed and built on the previous one."""

    def __init__(self, tables: Landing) -> None:
        self.log, self.tables = BankLog(), tables
        self.results: list[BuildResult] = []
        ordinary_day(self.log)
        tables.land(self.log.take())
        self.build()
        second_day(self.log)
        tables.land(self.log.take())
        self.results.append(self.build())
        third_day(self.log)
        landed = self.log.take()
        tables.land({name: records for name, records in landed.items() if name not in LATE})
        self.build()
        self.before_the_late = tables.rows("GOLD.FCT_TRANSACTIONS", "transaction_id", "account_version_match", "amount")
        tables.land({name: records for name, records in landed.items() if name in LATE})
        self.results.append(self.build())
        self.relations = Manifest.of(tables.home).relations()

    def build(self, *, full_refresh: bool = False) -> BuildResult:
        result = build(self.tables.environment, settle_seconds=0, full_refresh=full_refresh, data_tests=False)
        assert result.ok, result.problems
        return result


@pytest.fixture(scope="module")
def days(stack_pool: StackPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    with landing(stack_pool.get(Part.S3, Part.WAREHOUSE), tmp_path_factory.mktemp("home")) as tables:
        yield Days(tables)


def test_late_records_are_not_in_earlier_builds(days: Days) -> None:
    facts = {row[0]: row[1:] for row in days.before_the_late}
    assert facts[302][0] == "missing"
    assert str(facts[200][1]) == "0.00"


def test_current_rows_and_facts_equal_the_source(days: Days) -> None:
    for relation in ("SILVER.TRANSACTIONS", "GOLD.FCT_TRANSACTIONS"):
        found = {key: str(amount) for key, amount in days.tables.rows(relation, "transaction_id", "amount")}
        assert found == {key: row["amount"] for key, row in days.log.rows["transactions"].items()}
    matches = dict(days.tables.rows("GOLD.FCT_TRANSACTIONS", "transaction_id", "account_version_match"))
    assert matches[302] == "valid_at_event"


def test_snapshots_have_changes_and_deletions_between_two_runs(days: Days) -> None:
    owners = days.tables.rows(
        "SILVER.ACCOUNT_SNAPSHOTS", "customer_id", "dbt_valid_to is null", where="account_id = 20"
    )
    assert owners == [(2, False), (4, True)]
    lives = days.tables.rows(
        "SILVER.CUSTOMER_SNAPSHOTS", "name", "dbt_valid_to is null", where="customer_id in (3, 50)"
    )
    assert lives == [("Again", False), ("Third life", True)]
    open_rows = {
        row[0] for row in days.tables.rows("SILVER.CUSTOMER_SNAPSHOTS", "customer_id", where="dbt_valid_to is null")
    }
    assert open_rows == set(days.log.rows["customers"])


def test_where_a_run_saw_every_change_snapshots_and_versions_are_the_same_rows(days: Days) -> None:
    position = ("customer_id", "source_partition", "source_offset")
    seen = days.tables.rows("SILVER.ACCOUNT_SNAPSHOTS", "account_id", *position, where="account_id in (20, 70)")
    versions = days.tables.rows("GOLD.DIM_ACCOUNT", "account_id", *position, where="account_id in (20, 70)")
    assert seen == versions
    assert len(seen) == 3


def test_all_tests_pass_after_three_days(days: Days) -> None:
    result = build(days.tables.environment, settle_seconds=0)
    assert result.problems == ()
    assert result.ok


def test_incremental_builds_equal_a_full_build(days: Days) -> None:
    step_by_step = {relation: days.tables.rows(relation) for relation in days.relations}
    assert all(step_by_step.values())
    days.build(full_refresh=True)
    for relation in days.relations:
        assert days.tables.rows(relation) == step_by_step[relation], relation


def dbt(days: Days, *arguments: str, results: str) -> Any:
    """Runs a dbt command and returns its output."""
    target = days.tables.home / "dbt" / "target"
    subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", *arguments, "--project-dir", PROJECT, "--profiles-dir", PROJECT,
         "--target-path", target, "--log-path", days.tables.home / "dbt" / "logs"],
        env=os.environ | days.tables.environment, check=False, capture_output=True, timeout=600,
    )  # fmt: skip
    return json.loads((target / results).read_bytes())


def test_the_generated_docs_have_every_table_and_column(days: Days) -> None:
    catalog = dbt(days, "docs", "generate", "--static", results="catalog.json")
    assert catalog["errors"] is None
    for node in Manifest.of(days.tables.home).built:
        assert {name.lower() for name in catalog["nodes"][node.unique_id]["columns"]} == set(node.columns), node.name
    assert "volume_per_minute" in (days.tables.home / "dbt" / "target" / "static_index.html").read_text("utf-8")


def test_stale_sources_are_reported(days: Days) -> None:
    found = dbt(days, "source", "freshness", results="sources.json")["results"]
    verdicts = {result["unique_id"].rpartition(".")[2]: result["status"] for result in found}
    assert verdicts == dict.fromkeys(
        ("cdc_events", "scd2_customers", "scd2_accounts", "transactions", "velocity"), "error"
    )
    newest = max(record["ts"] for record in days.log.history["CDC_EVENTS"])
    [loaded] = [result["max_loaded_at"] for result in found if result["unique_id"].endswith("cdc_events")]
    assert datetime.fromisoformat(loaded).timestamp() * 1000 == newest
