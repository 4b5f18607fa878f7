"""The warehouse's round: is what was landed fresh; silver, snapshots and gold, built and tested; does it all equal the source.

    freshness
    silver -> snapshots -> gold -> histories -> reconcile

Freshness stands beside the others: old data is an alarm, and no reason to leave what has come unbuilt. Every task works on what has
landed until it runs, not on an interval of time: a second run with nothing new changes nothing, a run that was missed needs no catching
up, and any task can be cleared and run again. Downstream DAGs are scheduled on the assets: `bankstream://gold` when gold is built and
its tests have passed, `bankstream://reconciled` when it was also found equal to PostgreSQL.
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
"""They test the models' logic and do not look at data: they belong to development."""
LONGEST_PAUSE: Final = timedelta(minutes=30)

settings = Settings.read()

P = ParamSpec("P")
R = TypeVar("R")


def final_findings(work: Callable[P, R]) -> Callable[P, R]:
    """What a command found is the same at the next try: fail without retries, so that the alarm goes out at once."""

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
    """Build a layer's models and run every test that needs no later layer."""
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
    """The tasks and their order."""

    @task
    def freshness() -> str:
        """Whether every source has records as new as dbt/models/bronze says."""
        return dbt(settings, "source", "freshness", results="sources.json", folder="freshness")

    @task(outlets=[SILVER])
    def silver() -> str:
        """Current rows and typed changes."""
        return layer("silver")

    @task
    def snapshots() -> str:
        """History, derived a second time from current rows."""
        return dbt(settings, "snapshot", results="run_results.json", folder="build")

    @task(outlets=[GOLD])
    def gold() -> str:
        """What people read."""
        return layer("gold")

    @task
    def histories() -> str:
        """The tests that hold snapshots against gold: they need both."""
        arguments = ("test", "--select", "resource_type:snapshot", "--indirect-selection", "eager", *WITHOUT_UNIT_TESTS)
        return dbt(settings, *arguments, results="run_results.json", folder="build")

    @task(outlets=[RECONCILED])
    def reconcile() -> Iterator[Any]:
        """PostgreSQL against the warehouse, row by row, at one consistent position."""
        report = compared(settings)
        rows = {name: table["source_rows"] for name, table in report["tables"].items()}
        yield Metadata(
            RECONCILED,
            extra={"taken_at": report["position"]["taken_at"], "lsn": report["position"]["lsn"], "rows": rows},
        )

    freshness()
    silver() >> snapshots() >> gold() >> histories() >> reconcile()


bank_warehouse()
