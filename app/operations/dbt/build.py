"""Runs `dbt build` on the warehouse models in dbt/ and reports what passed, failed and was skipped.

dbt runs as a separate process (`app.operations.dbt.process`). Its global state (adapters, plugins, argument parser) stays out of this
process, and a build that hangs can be killed. dbt writes below BANKSTREAM_HOME, so a checkout stays clean and can be read-only.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from app.errors import BankstreamError

PROJECT: Final = Path(__file__).resolve().parents[3] / "dbt"
TIMEOUT_S: Final = 1_800
OUTPUT_LINES: Final = 40
"""The last lines of dbt's output that an error message quotes."""

PASSED: Final = frozenset({"success", "pass", "no-op"})
WARNED: Final = frozenset({"warn"})
SKIPPED: Final = frozenset({"skipped"})


class WarehouseModelsError(BankstreamError):
    """dbt did not complete: no project, no connection, a model that does not compile, or the time limit reached."""


class Problem(msgspec.Struct, frozen=True):
    """A model or test that did not pass."""

    name: str
    """Its name in dbt, e.g. `no_overlap_dim_customer_customer_id`."""
    kind: str
    """model, test, unit_test, …"""
    status: str
    """error (it could not run), fail (it ran and found rows), warn, skipped (an upstream node failed)."""
    message: str
    rows: int | None = None
    """The number of rows that a test found."""


class BuildResult(msgspec.Struct, frozen=True):
    """The result of a build."""

    passed: int
    warned: int
    failed: int
    skipped: int
    seconds: float
    problems: tuple[Problem, ...] = ()
    """Failures, then warnings. Skipped nodes are not listed: they only follow from failures."""

    @property
    def ok(self) -> bool:
        """Whether every node ran and no test failed. Warnings are allowed."""
        return self.failed == self.skipped == 0

    def lines(self) -> list[str]:
        """Returns the result as text: a line of totals, then one line for each problem."""
        totals = f"{self.passed} passed, {self.failed} failed, {self.warned} warned, {self.skipped} skipped"
        return [f"dbt build: {totals} in {self.seconds:.1f} s"] + [
            f"  {problem.status} {problem.kind} {problem.name}: {problem.message}" for problem in self.problems
        ]


def build(environment: Mapping[str, str], **options: Any) -> BuildResult:
    """Builds every model and runs every test in the warehouse that `environment` (BANKSTREAM_SNOWFLAKE_*) names.

    Options and errors are those of `prepared`. Failed tests are part of the result; WarehouseModelsError means that there is no result.
    """
    with prepared(environment, **options) as go:
        return go()


@contextmanager
def prepared(
    environment: Mapping[str, str],
    *,
    settle_seconds: int | None = None,
    full_refresh: bool = False,
    unit_tests: bool = False,
    data_tests: bool = True,
    select: Sequence[str] = (),
    project: Path = PROJECT,
    timeout_s: float = TIMEOUT_S,
    show: bool = False,
) -> Iterator[Callable[[], BuildResult]]:
    """Starts dbt, which parses the project in the background while the caller works. Yields a function that builds, waits for the end of
    the build and returns its result. Call the function at most once. Without a call, dbt is killed at the end of the context.

    `settle_seconds` 0 means that no more changes arrive: comparisons between stream and raw changes then leave nothing out. None applies
    the project's default, which is for a warehouse that is being loaded. `unit_tests` also runs dbt's unit tests; they do not read the
    data and so belong to development (a third of the time on the local warehouse). Without `data_tests` the models are built but not
    tested. `select` narrows the build, in dbt's selection syntax. `show` prints dbt's output.
    """
    if not (project / "dbt_project.yml").is_file():
        raise WarehouseModelsError(
            f"there is no dbt project in {project}: it is part of the repository, not of the installed package. "
            "Run this command from a checkout or in the container image."
        )
    home = Path(environment.get("BANKSTREAM_HOME", ".bankstream")).absolute() / "dbt"
    arguments: list[str | Path] = ["--project-dir", project, "--profiles-dir", project]
    arguments += ["--target-path", home / "target", "--log-path", home / "logs"]
    if settle_seconds is not None:
        arguments += ["--vars", f"{{settle_seconds: {settle_seconds}}}"]
    arguments += ["--"]
    if full_refresh:
        arguments += ["--full-refresh"]
    if not unit_tests:
        arguments += ["--exclude-resource-type", "unit_test"]
    if not data_tests:
        arguments += ["--exclude-resource-type", "test"]
    if select:
        arguments += ["--select", *select, "--indirect-selection", "buildable"]  # a test needs all its tables
    with _alone(home):
        console = None if show else home / "logs" / "console.log"
        results = home / "target" / "run_results.json"
        results.unlink(missing_ok=True)

        with _started(arguments, environment, console) as process:

            def go() -> BuildResult:
                started = time.monotonic()
                _finish(process, home, timeout_s)
                seconds = time.monotonic() - started
                try:
                    found = msgspec.json.decode(results.read_bytes(), type=_RunResults)
                except (OSError, msgspec.DecodeError):
                    raise WarehouseModelsError(
                        f"dbt wrote no result; its log is {home / 'logs' / 'dbt.log'} and its last lines are:\n{_end(console)}"
                    ) from None
                return _result(found, seconds)

            yield go


class _NodeResult(msgspec.Struct, frozen=True):
    unique_id: str
    status: str
    message: str | None = None
    failures: int | None = None


class _RunResults(msgspec.Struct, frozen=True):
    """The fields of dbt's run_results.json that are read."""

    results: tuple[_NodeResult, ...]


@contextmanager
def _started(
    arguments: Sequence[str | Path], environment: Mapping[str, str], console: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs dbt's process for the length of the context. Its output goes to `console`; None: to the output of this process."""
    with console.open("wb") if console else nullcontext() as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.operations.dbt.process", *arguments],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT if file else None,
            process_group=0,  # Ctrl-C reaches this process only, not the build
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _finish(process: subprocess.Popen[bytes], home: Path, timeout_s: float) -> None:
    """Starts the build and waits until the process exits, with any exit code."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # the process has exited, and its output says why
        process.stdin.write(b"build\n")
        process.stdin.flush()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise WarehouseModelsError(
            f"dbt was killed after {timeout_s:.0f} s; its log is {home / 'logs' / 'dbt.log'}."
        ) from None


def _end(console: Path | None) -> str:
    """Returns the last lines of dbt's output."""
    if console is None:
        return "(shown above)"
    with console.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, OUTPUT_LINES)).strip()


def _result(found: _RunResults, seconds: float) -> BuildResult:
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    for node in found.results:
        verdict = _verdict(node.status)
        counts[verdict] += 1
        if verdict in ("failed", "warned"):
            kind, _, *names = node.unique_id.split(".")
            name = names[0] if kind == "test" else ".".join(names)  # the last part of a test's id is a hash
            message = " ".join((node.message or "no message").split())
            problems.append(Problem(name, kind, node.status, message, node.failures))
    problems.sort(key=lambda problem: (problem.status == "warn", problem.name))
    return BuildResult(
        passed=counts["passed"], warned=counts["warned"], failed=counts["failed"], skipped=counts["skipped"],
        seconds=round(seconds, 3), problems=tuple(problems),
    )  # fmt: skip


def _verdict(status: str) -> str:
    if status in PASSED:
        return "passed"
    if status in WARNED:
        return "warned"
    return "skipped" if status in SKIPPED else "failed"  # an unknown status counts as failed


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Holds a file lock, so that one build runs at a time: two would replace each other's tables and results."""
    try:
        for directory in (home / "target", home / "logs"):
            directory.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as error:
        raise WarehouseModelsError(
            f"cannot write in {home} ({error.strerror}). Make it writable, or set BANKSTREAM_HOME."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WarehouseModelsError(f"another dbt build runs in {home}. Wait until it ends.") from None
        yield
