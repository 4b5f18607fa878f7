"""Keeps workers running as an orchestrator does: restarts each worker that exits, with its name and its local state."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import psutil
import requests

from app.local.stack.http import loopback
from app.local.stack.parts.workers import READY
from app.local.stack.ports import choose
from tests.support.machine.waiting import eventually
from tests.support.paths import PROJECT

KILLED: Final = -signal.SIGKILL
RESTART_PAUSE_S: Final = 0.1
FAILURE_PAUSE_S: Final = 0.5
"""Pause before the restart of a worker that exited by itself. Orchestrators back off too."""
READY_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Exit:
    """An exit of a worker. `asked`: the test stopped or killed it."""

    name: str
    pid: int
    code: int
    at: float
    asked: bool
    log: Path

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid}) ended with {self.code}"


@dataclass(slots=True)
class Worker:
    """A worker that is kept running. `environment` overrides the bank's from its next start on."""

    name: str
    kind: str
    metrics_port: int
    environment: dict[str, str] = field(default_factory=dict)
    hooks: Sequence[str] = ()
    """Functions `module:name` that run first in the worker's process and inject a fault into it."""
    wanted: bool = True
    asked: bool = False
    pid: int | None = None
    starts: int = 0


class WorkerSupervisor:
    """The workers of one bank. Thread-safe. A context manager, which ends all workers when it closes."""

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        self._environment = {**{k: v for k, v in os.environ.items() if not k.startswith("BANKSTREAM_")}, **environment}
        self._home = home
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._workers: dict[str, Worker] = {}
        self._by_pid: dict[int, Worker] = {}
        self._requests = 0
        self._starting: deque[Worker] = deque()
        self._exits: list[Exit] = []
        self._zygote: subprocess.Popen[bytes] | None = None
        self._closing = False

    def __enter__(self) -> Self:
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"], cwd=PROJECT, env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(self._home / "zygote.log").open("ab"),
        )  # fmt: skip
        assert self._zygote.stdout is not None
        if "ready" not in json.loads(self._zygote.stdout.readline() or b"{}"):
            raise RuntimeError(f"the zygote did not start:\n{(self._home / 'zygote.log').read_text()}")
        threading.Thread(
            target=self._listen, args=(self._zygote.stdout,), name="worker-supervisor", daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        with self._lock:
            self._closing = True
        self._zygote.stdin.close()
        self._zygote.wait(30)

    # -- the workers ---------------------------------------------------------------------------------------------------

    def add(self, name: str, kind: str, *, hooks: Sequence[str] = (), **environment: str) -> Worker:
        """Starts a worker of this kind and keeps it running."""
        with self._lock:
            worker = self._workers.get(name)
            if worker is None:
                worker = self._workers[name] = Worker(
                    name, kind, _port({w.metrics_port for w in self._workers.values()})
                )
            worker.environment, worker.hooks, worker.wanted = dict(environment), tuple(hooks), True
            if worker.pid is None:
                self._start(worker)
            return worker

    def names(self, kind: str | None = None) -> list[str]:
        """The names of the workers that are kept running."""
        with self._lock:
            return [w.name for w in self._workers.values() if w.wanted and kind in (None, w.kind)]

    def worker(self, name: str) -> Worker:
        """A worker by name. KeyError if it was never added."""
        return self._workers[name]

    def pid(self, name: str) -> int:
        """Its current process id. AssertionError if it has no process."""
        pid = self._workers[name].pid
        assert pid is not None, f"{name} has no process"
        return pid

    def log(self, name: str) -> Path:
        """Its log file, which all its processes share."""
        return self._home / f"{name}.log"

    def exits(self, since: int = 0) -> list[Exit]:
        """All exits of workers from this index on."""
        with self._lock:
            return self._exits[since:]

    # -- actions on workers ----------------------------------------------------------------------------------------------

    def kill(self, name: str, *, wait_s: float = 10) -> Exit:
        """kill -9, then a restart. Waits for a worker that is being restarted. Returns the exit as the proof."""
        self.alive(name)
        return self._end(name, signal.SIGKILL, wait_s, stays=True)

    def stop(self, name: str, *, wait_s: float = 60) -> Exit:
        """SIGTERM. The worker stays down until `add`."""
        self.alive(name)
        return self._end(name, signal.SIGTERM, wait_s, stays=False)

    def restart(self, name: str) -> Exit:
        """SIGTERM, then a restart with the current environment and hooks."""
        ended = self.stop(name)
        with self._lock:
            worker = self._workers[name]
            worker.wanted = True
            self._start(worker)
        return ended

    def send(self, name: str, number: signal.Signals) -> int:
        """Sends a signal and returns the process id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def freeze(self, name: str) -> int:
        """SIGSTOP. Returns the process id when the process is stopped."""
        pid = self.send(name, signal.SIGSTOP)
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, timeout_s=5)
        return pid

    def alive(self, name: str, timeout_s: float = 30) -> None:
        """Waits until it has a process."""
        eventually(lambda: self._workers[name].pid is not None, timeout_s=timeout_s, message=f"{name} is not started")

    def ready(self, *names: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Waits until these workers (default: all) have opened their assigned partitions."""
        for name in names or self.names():
            eventually(
                lambda name=name: READY in self.metrics(name),  # type: ignore[misc]
                timeout_s=timeout_s,
                message=f"{name} is not ready after {timeout_s} s:\n{tail(self.log(name))}",
            )

    def metrics(self, name: str) -> str:
        """Its metrics; empty if it does not answer."""
        try:
            with loopback() as session:
                return str(session.get(f"http://127.0.0.1:{self._workers[name].metrics_port}/metrics", timeout=2).text)
        except requests.RequestException:
            return ""

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _end(self, name: str, number: signal.Signals, wait_s: float, *, stays: bool) -> Exit:
        with self._changed:
            worker = self._workers[name]
            pid = worker.pid
            assert pid is not None, f"{name} has no process"
            worker.asked, worker.wanted = True, stays
            with suppress(ProcessLookupError):  # it has just exited by itself: its exit code will show that
                os.kill(pid, number)
            deadline = time.monotonic() + wait_s
            while True:
                found = next((end for end in reversed(self._exits) if end.pid == pid), None)
                if found is not None:
                    return found
                assert self._changed.wait(deadline - time.monotonic()), (
                    f"{name} lives {wait_s} s after {number.name}:\n{tail(self.log(name))}"
                )

    def _start(self, worker: Worker) -> None:
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        self._requests += 1
        worker.starts += 1
        worker.asked = False
        state = self._home / "state" / worker.name
        state.mkdir(parents=True, exist_ok=True)
        environment = {
            **self._environment,
            "BANKSTREAM_ENGINE_STATE_DIR": str(state),
            "BANKSTREAM_METRICS_PORT": str(worker.metrics_port),
            **worker.environment,
        }
        request = {
            "id": self._requests, "kind": worker.kind, "environment": environment, "log": str(self.log(worker.name)),
            "hooks": list(worker.hooks),
        }  # fmt: skip
        self._starting.append(worker)
        self._zygote.stdin.write(json.dumps(request).encode() + b"\n")
        self._zygote.stdin.flush()

    def _listen(self, answers: IO[bytes]) -> None:
        for line in answers:
            answer: dict[str, Any] = json.loads(line)
            with self._changed:
                if "started" in answer:
                    worker = self._starting.popleft()
                    worker.pid = answer["started"]
                    self._by_pid[answer["started"]] = worker
                else:
                    self._ended(answer["ended"], answer["code"])
                self._changed.notify_all()

    def _ended(self, pid: int, code: int) -> None:
        worker = self._by_pid.pop(pid)
        worker.pid = None
        self._exits.append(Exit(worker.name, pid, code, time.time(), worker.asked, self.log(worker.name)))
        if worker.wanted and not self._closing:
            pause = RESTART_PAUSE_S if worker.asked else FAILURE_PAUSE_S
            threading.Timer(pause, self._start_again, [worker]).start()

    def _start_again(self, worker: Worker) -> None:
        with self._lock:
            if worker.wanted and worker.pid is None and worker not in self._starting and not self._closing:
                self._start(worker)


def tail(log: Path, size: int = 3_000) -> str:
    """The last lines of a log."""
    return log.read_text(errors="replace")[-size:] if log.exists() else "(no log)"


def _port(taken: set[int]) -> int:
    while (port := choose(["metrics"], {}, {})["metrics"]) in taken:
        pass
    return port
