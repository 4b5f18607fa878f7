"""Starts real worker processes in tests with the product's command, and stops or kills them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.topic_admin import ensure_topics
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision import lake, topics, warehouse
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import private_stack, settings_of
from tests.support.paths import PROJECT

SESSION_TIMEOUT_MS = 6_000
"""The broker's minimum. A killed worker's partitions have no owner for this time."""


@dataclass
class Workers:
    """Workers of one stack, as a context manager. Workers that are alive at the end are killed."""

    environment: Mapping[str, str]
    home: Path
    alive: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.alive:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(10)

    def start(self, kind: str, *, by_faust: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """Starts one more worker, by `bankstream worker` or by `faust -A`."""
        self.started += 1
        command = (
            ["-m", "faust", "-A", f"app.{kind}", "worker", "--without-web", "-l", "info"]
            if by_faust
            else ["-m", "app.cli", "worker", kind]
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BANKSTREAM_")}
        variables = {
            "BANKSTREAM_ENGINE_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            "BANKSTREAM_ENGINE_STATE_DIR": str(self.home / f"state-{self.started}"),
        }
        with (self.home / f"worker-{self.started}-{kind}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, *command],
                cwd=PROJECT,
                env={**kept, **self.environment, **variables, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.alive.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """kill -9. AssertionError if the worker has exited before: then something else is wrong."""
        assert worker.poll() is None, f"a worker ended by itself with {worker.returncode}:\n{self.logs()}"
        worker.kill()
        worker.wait(10)
        self.alive.remove(worker)

    def stop(self, worker: subprocess.Popen[bytes], timeout_s: float = 30) -> int:
        """Sends SIGTERM and returns the exit code."""
        worker.terminate()
        code = worker.wait(timeout_s)
        self.alive.remove(worker)
        return code

    def check(self) -> None:
        """Raises AssertionError with the end of every log if a worker has exited by itself."""
        ended = [worker.returncode for worker in self.alive if worker.poll() is not None]
        assert not ended, f"workers ended with {ended}:\n{self.logs()}"

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-2_000:]}" for log in sorted(self.home.glob("*.log"))
        )


@pytest.fixture(scope="session")
def workers_stack() -> Iterator[Stack]:
    """Kafka, S3 and the warehouse for the product's workers, whose topics have fixed names."""
    with private_stack(Part.KAFKA, Part.S3, Part.WAREHOUSE) as stack:
        yield stack


@pytest.fixture
async def environment(workers_stack: Stack) -> dict[str, str]:
    """Variables for workers: all topics, and a separate folder of the lake and database for this test."""
    name = f"T{uuid4().hex[:12].upper()}"
    variables = workers_stack.environment() | {
        "BANKSTREAM_S3_PREFIX": name,
        "BANKSTREAM_SNOWFLAKE_DATABASE": name,
    }
    kafka = settings_of(variables, KafkaSettings)
    await ensure_topics(topics.specs(CATALOGUE, (), kafka, EngineSettings()), kafka)
    await asyncio.to_thread(lake.run, variables)
    await asyncio.to_thread(warehouse.run, variables)
    return variables
