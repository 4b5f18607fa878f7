"""Starts the processes of a stack in parallel, waits until each is ready, and runs the provisioning steps.

Each process has one thread, which prepares it, starts it and polls it until it is ready. The caller's thread runs the provisioning
steps in their order, each one as soon as its parts are ready, and then starts the workers. The first error, or Ctrl-C, cancels the rest.
"""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

from app.errors import BankstreamError
from app.local.stack import jars
from app.local.stack.catalogue import is_backend
from app.local.stack.errors import ProvisionError
from app.local.stack.events import Event, Progress, Provisioned, Ready, Starting
from app.local.stack.part import Context, Definition, Part
from app.local.stack.readiness import await_ready
from app.local.stack.supervisor import Supervisor
from app.operations.provision.steps import CONNECTOR, LAKE, SOURCE, TOPICS, WAREHOUSE, Step

WAIT_SLICE_S: Final = 0.2
"""The caller's thread wakes at this interval to handle Ctrl-C."""


NEEDS: Final[Mapping[Step, frozenset[Part]]] = {
    SOURCE: frozenset({Part.POSTGRES}),
    TOPICS: frozenset({Part.KAFKA}),
    LAKE: frozenset({Part.S3}),
    WAREHOUSE: frozenset({Part.S3, Part.WAREHOUSE}),
    CONNECTOR: frozenset({Part.POSTGRES, Part.KAFKA, Part.CONNECT}),
}
"""The parts that must be ready before a provisioning step runs."""


class _CancelledError(Exception):
    """Another part failed, or the user pressed Ctrl-C."""


class BringUp:
    """One run of `up`. An object is used once."""

    def __init__(
        self,
        context: Context,
        supervisor: Supervisor,
        processes: Mapping[str, Definition],
        progress: Progress,
        *,
        timeout_s: float,
        maven_url: str | None,
    ) -> None:
        self._context, self._supervisor, self._processes = context, supervisor, processes
        self._progress, self._timeout_s, self._maven_url = progress, timeout_s, maven_url
        self._began = time.monotonic()
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self.started: list[str] = []
        """Processes that this run started, without those that were already running."""

    def run(self, steps: Sequence[Step]) -> None:
        """Start all processes and run all steps. Raises the first error and leaves the processes started so far running."""
        with ThreadPoolExecutor(len(self._processes) + 1, thread_name_prefix="stack") as pool:
            try:
                self._run(steps, pool)
            except BaseException:
                self._cancelled.set()
                raise

    def _run(self, steps: Sequence[Step], pool: ThreadPoolExecutor) -> None:
        fetched = pool.submit(self._fetch)
        backends = [name for name, definition in self._processes.items() if is_backend(definition)]
        workers = [name for name in self._processes if name not in backends]
        ready = {name: pool.submit(self._bring, name, fetched) for name in backends}
        present = {definition.part for definition in self._processes.values()}
        for step in steps:
            needs = NEEDS[step]
            if needs <= present:
                self._wait(
                    [future for name, future in ready.items() if self._processes[name].part in needs],
                    ready.values(),
                )
                self._provision(step)
        self._wait(ready.values(), ready.values())
        ready = {name: pool.submit(self._bring, name, fetched) for name in workers}
        self._wait(ready.values(), ready.values())

    def _fetch(self) -> None:
        groups: list[jars.LockName] = []
        present = {definition.part for definition in self._processes.values()}
        if present & {Part.KAFKA, Part.CONNECT}:
            groups.append("kafka")
        if Part.CONNECT in present:
            groups.append("debezium")
        wanted = [jar for group in groups for jar in jars.locked(group)]
        if wanted:
            jars.fetch(wanted, self._context.cache, self._tell, repository=self._maven_url)

    def _bring(self, name: str, fetched: "Future[None]") -> None:
        definition = self._processes[name]
        if not self._supervisor.processes()[name].alive:
            if definition.part in {Part.KAFKA, Part.CONNECT}:
                fetched.result()
            definition.prepare(self._context)
            self._check_cancelled()
            with self._lock:
                self.started.append(name)
            self._supervisor.begin(name)
        self._tell(Starting(name))
        await_ready(
            name,
            definition,
            self._context,
            self._supervisor,
            timeout_s=self._timeout_s,
            check_cancelled=self._check_cancelled,
        )
        self._tell(Ready(name, time.monotonic() - self._began))

    def _provision(self, step: Step) -> None:
        try:
            step.run(self._context.environment)
        except BankstreamError:
            raise
        except Exception as error:
            raise ProvisionError(f"setting up {step.name} failed: {type(error).__name__}: {error}") from error
        self._tell(Provisioned(step.name, time.monotonic() - self._began))

    @staticmethod
    def _wait(futures: Collection["Future[None]"], everything: Collection["Future[None]"]) -> None:
        """Wait until `futures` are done. Raises the error of the first of `everything` that fails."""
        while True:
            for future in everything:
                if future.done():
                    future.result()
            if all(future.done() for future in futures):
                return
            pending = [future for future in everything if not future.done()]
            wait(pending, timeout=WAIT_SLICE_S, return_when=FIRST_COMPLETED)

    def _tell(self, event: Event) -> None:
        self._check_cancelled()
        with self._lock:
            self._progress(event)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError
