"""A bank under test: a private real stack, supervised workers, a load with known ids, and observers of its output."""

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.config.settings import KafkaSettings, PostgresSettings, SourceSettings
from app.local.stack.part import BACKENDS, Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import DEFAULT
from tests.faults.confirmed_transactions import ConfirmedTransactions
from tests.faults.load import Load
from tests.faults.recovery import Recovery
from tests.faults.worker_supervisor import WorkerSupervisor, tail
from tests.support.machine.clients import admin_query
from tests.support.machine.stack import private_stack, settings_of
from tests.support.streams.workers import SESSION_TIMEOUT_MS

HISTORY_DAYS = 20
"""Payments are booked from this many days ago on, one second apart, so that rules see days of history and not a burst."""
TUNING: Mapping[str, str] = {
    "BANKSTREAM_ENGINE_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
    "BANKSTREAM_ENGINE_LINGER_MS": "25",
    "BANKSTREAM_LAKE_MAX_AGE_MS": "2000",  # fewer and larger objects, because all processes share two cores
    "BANKSTREAM_WAREHOUSE_LOAD_INTERVAL_MS": "1000",
    "BANKSTREAM_WAREHOUSE_SWEEP_INTERVAL_MS": "10000",
}


@dataclass(frozen=True)
class Bank:
    """Everything that a fault can act on. `environment` has the variables for workers and tools."""

    stack: Stack
    environment: Mapping[str, str]
    home: Path
    workers: WorkerSupervisor
    load: Load
    confirmed: ConfirmedTransactions
    recovery: Recovery
    chance: random.Random

    @property
    def kafka(self) -> KafkaSettings:
        """The settings for Kafka without a proxy."""
        return settings_of(self.environment, KafkaSettings)

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Runs a statement in PostgreSQL as the administrator and returns its rows."""
        return admin_query(settings_of(self.environment, SourceSettings), statement, *values)

    def part_pid(self, part: str) -> int:
        """The process id of a part of the stack."""
        pid = self.stack.pid(part)
        assert pid is not None, f"{part} does not run"
        return pid

    def logs(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(f"--- {name}\n{tail(self.workers.log(name))}" for name in self.workers.names())


@contextmanager
def bank(*, seed: int, streams_workers: int, environment: Mapping[str, str] | None = None) -> Iterator[Bank]:
    """Starts and populates a bank, and deletes it at the end. `environment` overrides the settings of the stack and TUNING."""
    with private_stack(*BACKENDS, Part.WATCH, steps=DEFAULT) as stack:
        variables = {**stack.environment(), **TUNING, **_overrides(), **(environment or {})}
        home = stack.home.path / "faults"
        home.mkdir(mode=0o700)
        confirmed = ConfirmedTransactions()
        load = Load(settings_of(variables, PostgresSettings), confirmed, seed)
        with (
            WorkerSupervisor(variables, home) as workers,
            Recovery(settings_of(variables, KafkaSettings)) as recovery,
        ):
            try:
                for number in range(1, streams_workers + 1):
                    workers.add(f"streams-{number}", "streams")
                workers.add("lake-1", "lake")
                workers.add("warehouse-1", "warehouse")
                load.populate((datetime.now(UTC) - timedelta(days=HISTORY_DAYS)).isoformat())
                workers.ready()
                yield Bank(stack, variables, home, workers, load, confirmed, recovery, random.Random(seed))
            finally:
                load.close()
                _keep_logs(home)


def _overrides() -> dict[str, str]:
    """Variables of TUNING that the caller's environment overrides."""
    return {name: os.environ[name] for name in TUNING if name in os.environ}


def _keep_logs(home: Path) -> None:
    """Copies the workers' logs to BANKSTREAM_FAULTS_LOGS if it is set, because the bank's own directory is deleted at the end."""
    kept = os.environ.get("BANKSTREAM_FAULTS_LOGS")
    if kept:
        target = Path(kept) / time.strftime("%H%M%S")
        target.mkdir(parents=True, exist_ok=True)
        for log in home.glob("*.log"):
            (target / log.name).write_bytes(log.read_bytes())
