"""Builds and checks the warehouse: freshness of the landed data; silver, snapshots and gold with their tests; reconciliation.

    freshness
    silver -> snapshots -> gold -> histories -> reconcile

Freshness is independent of the other tasks: stale data raises an alarm, but does not prevent building the data that has arrived. Every
task processes all data landed by the time it runs, not an interval of time. So a second run without new data changes nothing, a missed
run needs no catch-up, and any task can be cleared and run again. Downstream DAGs are scheduled on the assets: `bankstream://gold` when
gold is built and its tests have passed, `bankstream://reconciled` when the warehouse also equals PostgreSQL.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from airflow.sdk import Asset, Metadata, dag, task
from airflow.sdk.exceptions import AirflowFailException
from bank_jobs import commands
from bank_jobs.alarm import run_failed, task_failed
from bank_jobs.settings import Settings

SILVER: Final = Asset(name="bankstream_silver", uri="bankstream://silver", group="bankstream")
GOLD: Final = Asset(name="bankstream_gold", uri="bankstream://gold", group="bankstream")
RECONCILED: Final = Asset(name="bankstream_reconciled", uri="bankstream://reconciled", group="bankstream")

WITHOUT_UNIT_TESTS: Final = ("--exclude-resource-type", "unit_test")
"""Unit tests check the models' logic and do not read data, so they belong to development."""
LONGEST_PAUSE: Final = timedelta(minutes=30)

settings = Settings.read()

P = ParamSpec("P")
R = TypeVar("R")


def final_findings(work: Callable[P, R]) -> Callable[P, R]:
    """Fails a task with a finding without retries, so that the alarm is raised at once: a retry would find the same."""

    @wraps(work)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except commands.FindingError as finding:
            raise AirflowFailException(str(finding)) from finding

    return told


dbt = final_findings(commands.dbt)
compared = final_findings(commands.reconcile)


def layer(name: str) -> str:
    """Builds a layer's models and runs every test that needs no later layer."""
    arguments = ("build", "--select", f"path:models/{name}", "--indirect-selection", "buildable", *WITHOUT_UNIT_TESTS)
    return dbt(settings, *arguments, results="run_results.json", folder="build")


@dag(
    dag_id="bank_warehouse",
    description="Freshness; silver, snapshots and gold with their tests; reconciliation with PostgreSQL",
    doc_md=__doc__,
    schedule=settings.schedule or None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=6 * settings.task_timeout,
    on_failure_callback=run_failed,
    default_args={
        "owner": "bankstream",
        "retries": settings.retries,
        "retry_delay": settings.retry_delay,
        "retry_exponential_backoff": True,
        "max_retry_delay": LONGEST_PAUSE,
        "execution_timeout": settings.task_timeout,
        "on_failure_callback": task_failed,
    },
    tags=["bankstream"],
)
def bank_warehouse() -> None:
    """Defines the tasks and their order."""

    @task
    def freshness() -> str:
        """Checks that the newest records of every source are within the limits in dbt/models/bronze."""
        return dbt(settings, "source", "freshness", results="sources.json", folder="freshness")

    @task(outlets=[SILVER])
    def silver() -> str:
        """Builds current rows and typed changes."""
        return layer("silver")

    @task
    def snapshots() -> str:
        """Derives the history a second time, from current rows."""
        return dbt(settings, "snapshot", results="run_results.json", folder="build")

    @task(outlets=[GOLD])
    def gold() -> str:
        """Builds the models for analysts."""
        return layer("gold")

    @task
    def histories() -> str:
        """Runs the tests that compare snapshots with gold."""
        arguments = ("test", "--select", "resource_type:snapshot", "--indirect-selection", "eager", *WITHOUT_UNIT_TESTS)
        return dbt(settings, *arguments, results="run_results.json", folder="build")

    @task(outlets=[RECONCILED])
    def reconcile() -> Iterator[Any]:
        """Compares PostgreSQL with the warehouse, row by row, at one consistent position."""
        report = compared(settings)
        rows = {name: table["source_rows"] for name, table in report["tables"].items()}
        yield Metadata(
            RECONCILED,
            extra={"taken_at": report["position"]["taken_at"], "lsn": report["position"]["lsn"], "rows": rows},
        )

    freshness()
    silver() >> snapshots() >> gold() >> histories() >> reconcile()


bank_warehouse()
