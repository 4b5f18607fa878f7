"""Runs the project's commands, `dbt` and `bankstream`, as processes in the project's environment, and distinguishes two kinds of failure.

A finding (a data test failed, a row differs) recurs at the next try, so the task fails at once and raises an alarm. Every other failure
(no connection, a server that restarts, a limit reached) may be transient, so Airflow retries. Messages name tests, tables and keys, never
values of columns, because alarms leave the bank. The module does not import Airflow, so that it can be tested without it.
"""

import json
import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bank_jobs.settings import Settings

log = logging.getLogger("bankstream.jobs")

GOOD: Final = frozenset({"success", "pass", "warn", "no-op"})
NAMED: Final = 20
"""The number of problems that a message names; further ones are counted."""
STOP_WAIT_S: Final = 20
KEPT_FROM_COMMANDS: Final = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "BANKSTREAM_AIRFLOW_")
"""Prefixes of variables that commands do not receive: Airflow's database password, and the paths of its own environment."""


class CommandError(RuntimeError):
    """A command could not complete. A retry may succeed."""


class FindingError(RuntimeError):
    """A command completed and found a problem in the data. A retry would find it again."""


def dbt(settings: Settings, *arguments: str, results: str, folder: str) -> str:
    """Runs dbt on the project. Returns a line with the result.

    `results` is the file to which dbt writes its results; `folder` separates concurrent runs. FindingError if only data tests failed,
    CommandError for every other failure.
    """
    home = settings.home / "airflow" / folder
    home.mkdir(parents=True, exist_ok=True)
    outcome = home / "target" / results
    outcome.unlink(missing_ok=True)
    project = settings.project / "dbt"
    command: list[str | Path] = [settings.programs / "dbt", "--no-use-colors", *arguments, "--project-dir", project]
    command += ["--profiles-dir", project, "--target-path", home / "target", "--log-path", home / "logs"]
    if settings.settle_seconds is not None:
        command += ["--vars", json.dumps({"settle_seconds": settings.settle_seconds})]
    code, _ = run(command, cwd=settings.project)
    if not outcome.exists():
        if code == 0:
            return "nothing to do"
        raise CommandError(f"dbt ended with {code} and without a result; its log is {home / 'logs' / 'dbt.log'}")
    found = json.loads(outcome.read_bytes())["results"]
    bad = [result for result in found if result["status"] not in GOOD]
    if not bad and code == 0:
        return f"{len(found)} of {len(found)} good"
    if not bad:
        raise CommandError(f"dbt ended with {code} though every result is good; its log is {home / 'logs' / 'dbt.log'}")
    told = f"{len(bad)} of {len(found)} not good: {listed([_problem(result) for result in bad])}"
    if {result["status"] for result in bad} <= {"fail", "skipped"}:
        raise FindingError(told)
    if results == "sources.json" and all(result["status"] == "error" and "max_loaded_at" in result for result in bad):
        raise FindingError(told)
    raise CommandError(told)


def _problem(result: Mapping[str, Any]) -> str:
    kind, _, *names = result["unique_id"].split(".")
    name = names[0] if kind == "test" else ".".join(names)  # the last part of a test's id is a hash
    if "max_loaded_at" in result:
        return f"{kind} {name}: the newest record is {float(result['max_loaded_at_time_ago_in_s']):.0f} s old"
    rows = f", {result['failures']} rows" if result.get("failures") else ""
    return f"{kind} {name}: {result['status']}{rows}"


def reconcile(settings: Settings) -> Mapping[str, Any]:
    """Runs `bankstream reconcile`. Returns its report. FindingError if source and warehouse differ, CommandError if there is no report."""
    command = [settings.programs / "bankstream", "reconcile", "--json", "--timeout", str(settings.reconcile_timeout_s)]
    code, output = run(command, cwd=settings.project)
    try:
        report: Mapping[str, Any] = json.loads(output.strip().rpartition("\n")[2])
        reconciled, tables = report["reconciled"], report["tables"]
    except (ValueError, KeyError, TypeError):
        raise CommandError(
            f"bankstream reconcile ended with {code} and without a report; the task's log says why"
        ) from None
    if reconciled and code == 0:
        return report
    if reconciled:
        raise CommandError(f"bankstream reconcile ended with {code} though its report says equal")
    raise FindingError(f"PostgreSQL and the warehouse differ: {listed(list(_differences(tables)))}")


def _differences(tables: Mapping[str, Any]) -> Iterator[str]:
    for name, table in tables.items():
        for difference in table["differences"]:
            key = json.dumps(difference["key"], ensure_ascii=False)  # an integer, a text, or a list of them
            yield f"{name} {key} {difference['kind']}"
        if table["more_differences"]:
            yield f"{name}: {table['more_differences']} more keys"


def listed(problems: Sequence[str]) -> str:
    """Returns the first problems, and the number of further ones."""
    more = f", and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return ", ".join(problems[:NAMED]) + more


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the part of Airflow's environment that commands receive."""
    return {name: value for name, value in variables.items() if not name.startswith(KEPT_FROM_COMMANDS)}


def run(command: Sequence[str | Path], *, cwd: Path) -> tuple[int, str]:
    """Runs a command to its end. Returns its exit code and its output, which is also logged line by line.

    On every exit, also on a timeout or a cleared task, the command and its children are ended. CommandError if it cannot be started.
    """
    log.info("running %s", " ".join(Path(command[0]).name if not at else str(word) for at, word in enumerate(command)))
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CommandError(
            f"{command[0]} cannot be started ({error.strerror}). BANKSTREAM_AIRFLOW_PROGRAMS is the folder with bankstream and dbt."
        ) from error
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            log.info("%s", line.rstrip())
        return process.wait(), "".join(lines)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
