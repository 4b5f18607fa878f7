"""Tests the parts of Airflow's DAGs without Airflow: commands, whose findings are distinct from failures, alarms, and settings."""

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.machine.waiting import eventually
from tests.support.paths import PROJECT

DAGS = PROJECT / "ops" / "airflow" / "dags"


@pytest.fixture(autouse=True)
def dags_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DAGS)


def module(name: str) -> Any:
    return importlib.import_module(f"bank_jobs.{name}")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {
        "BANKSTREAM_AIRFLOW_PROJECT": str(tmp_path),
        "BANKSTREAM_AIRFLOW_PROGRAMS": str(tmp_path / "bin"),
        "BANKSTREAM_HOME": str(tmp_path / "home"),
    }


def program(environment: dict[str, str], name: str, source: str) -> Any:
    """A stand-in for dbt or bankstream, and the settings that name it."""
    file = Path(environment["BANKSTREAM_AIRFLOW_PROGRAMS"]) / name
    file.write_text(f"#!{sys.executable}\nimport json, os, pathlib, subprocess, sys, time\n{source}\n")
    file.chmod(0o755)
    return module("settings").Settings.read(environment)


def dbt(environment: dict[str, str], code: int, *results: dict[str, Any], written: str = "run_results.json") -> Any:
    """A stand-in for dbt with these results."""
    return program(
        environment,
        "dbt",
        f"target = pathlib.Path(sys.argv[sys.argv.index('--target-path') + 1])\n"
        f"target.mkdir(parents=True, exist_ok=True)\n"
        f"(target / {written!r}).write_text({json.dumps({'results': results})!r})\n"
        f"sys.exit({code})",
    )


def build(settings: Any, results: str = "run_results.json") -> Any:
    return module("commands").dbt(settings, "build", results=results, folder="build")


PASSED = {"unique_id": "model.bankstream.customers", "status": "success", "failures": None}
FAILED = {"unique_id": "test.bankstream.unique_customers_id.0a1b2c", "status": "fail", "failures": 3}
SKIPPED = {"unique_id": "model.bankstream.dim_customer", "status": "skipped", "failures": None}
BROKEN = {"unique_id": "model.bankstream.accounts", "status": "error", "failures": None, "message": "value 'SECRET'"}
STALE = {
    "unique_id": "source.bankstream.bronze.velocity",
    "status": "error",
    "max_loaded_at": "…",
    "max_loaded_at_time_ago_in_s": 7_200.4,
}


def test_a_successful_build_reports_the_number_of_successful_nodes(environment: dict[str, str]) -> None:
    assert build(dbt(environment, 0, PASSED, PASSED)) == "2 of 2 good"


def test_a_failed_data_test_is_a_finding_that_names_it(environment: dict[str, str]) -> None:
    with pytest.raises(module("commands").FindingError) as raised:
        build(dbt(environment, 1, PASSED, FAILED, SKIPPED))
    assert str(raised.value) == "2 of 3 not good: test unique_customers_id: fail, 3 rows, model dim_customer: skipped"


def test_a_model_that_cannot_be_built_may_be_tried_again_and_its_values_are_not_logged(
    environment: dict[str, str],
) -> None:
    with pytest.raises(module("commands").CommandError) as raised:
        build(dbt(environment, 1, FAILED, BROKEN))
    assert "model accounts: error" in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_a_stale_source_is_a_finding(environment: dict[str, str]) -> None:
    with pytest.raises(
        module("commands").FindingError, match=r"source bronze\.velocity: the newest record is 7200 s old"
    ):
        build(dbt(environment, 1, STALE, written="sources.json"), "sources.json")


@pytest.mark.parametrize("code", [1, 2])
def test_a_missing_result_is_a_failure(environment: dict[str, str], code: int) -> None:
    with pytest.raises(module("commands").CommandError, match=f"ended with {code} and without a result"):
        build(program(environment, "dbt", f"sys.exit({code})"))


def test_an_old_result_is_not_used_as_a_new_one(environment: dict[str, str]) -> None:
    build(dbt(environment, 0, PASSED))
    with pytest.raises(module("commands").CommandError, match="without a result"):
        build(program(environment, "dbt", "sys.exit(2)"))


def test_an_exit_code_other_than_0_is_a_failure_despite_good_results(environment: dict[str, str]) -> None:
    with pytest.raises(module("commands").CommandError, match="though every result is good"):
        build(dbt(environment, 1, PASSED))


def test_a_program_that_is_not_there_names_the_setting(environment: dict[str, str]) -> None:
    with pytest.raises(module("commands").CommandError, match="BANKSTREAM_AIRFLOW_PROGRAMS"):
        build(module("settings").Settings.read(environment))


def report(*, reconciled: bool, key: object = 7) -> dict[str, Any]:
    difference = [] if reconciled else [{"key": key, "kind": "missing"}]
    return {
        "reconciled": reconciled,
        "tables": {"customers": {"differences": difference, "more_differences": 0, "source_rows": 9}},
    }


def test_equal_is_a_report_and_different_is_a_finding(environment: dict[str, str]) -> None:
    reconcile = module("commands").reconcile
    assert reconcile(program(environment, "bankstream", f"print({json.dumps(report(reconciled=True))!r})"))[
        "reconciled"
    ]
    with pytest.raises(module("commands").FindingError, match="customers 7 missing"):
        reconcile(program(environment, "bankstream", f"print({json.dumps(report(reconciled=False))!r}); sys.exit(1)"))
    composite = report(reconciled=False, key=["Zürich\x1b", 2])
    with pytest.raises(module("commands").FindingError) as found:
        reconcile(program(environment, "bankstream", f"print({json.dumps(composite)!r}); sys.exit(1)"))
    assert 'customers ["Zürich\\u001b", 2] missing' in str(found.value)
    with pytest.raises(module("commands").CommandError, match="without a report"):
        reconcile(program(environment, "bankstream", "print('no connection'); sys.exit(1)"))


def test_airflows_variables_are_not_passed_to_commands() -> None:
    given = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "secret",
        "PYTHONPATH": "/x",
        "BANKSTREAM_AIRFLOW_WEBHOOK_URL": "secret",
    }
    kept = {"PATH": "/bin", "BANKSTREAM_SNOWFLAKE_USER": "u"}
    assert module("commands").environment(given | kept) == kept


def test_a_task_that_is_ended_ends_its_command_and_the_commands_children(environment: dict[str, str]) -> None:
    marks = Path(environment["BANKSTREAM_AIRFLOW_PROJECT"]) / "pids"
    settings = program(
        environment,
        "dbt",
        f"child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(marks)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\nprint('started', flush=True)\ntime.sleep(600)",
    )
    commands = module("commands")

    class EndedError(Exception):
        pass

    def interrupted(*line: Any) -> None:
        if "started" in line:
            raise EndedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands.log, "info", interrupted)
        with pytest.raises(EndedError):
            build(settings)
    for pid in marks.read_text().split():
        eventually(lambda pid=pid: not _runs(int(pid)), timeout_s=5)  # type: ignore[misc]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Webhook(HTTPServer):
    """Responds with these codes, then with 200, and keeps the accepted requests."""

    def __init__(self, *codes: int) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.codes = list(codes)
        self.accepted: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()


class Receiver(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.codes.pop(0) if self.server.codes else 200
        if code == 200:
            self.server.accepted.append(json.loads(body))
        self.send_response(code)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Does nothing: the tests read `accepted`."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        yield server
        server.shutdown()


def raise_alarm(environment: dict[str, str], address: str) -> tuple[bool, list[float]]:
    waited: list[float] = []
    settings = module("settings").Settings.read(environment | {"BANKSTREAM_AIRFLOW_WEBHOOK_URL": address})
    return module("alarm").raise_alarm({"text": "gold failed", "task": "gold"}, settings, waited.append), waited


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "bankstream.alarm"]


def test_an_alarm_is_logged_and_posted_again_until_it_is_accepted(
    environment: dict[str, str], webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.codes = [503, 500]
    assert raise_alarm(environment, f"http://127.0.0.1:{webhook.server_port}/secret-token") == (True, [1, 4])
    [line] = lines(caplog)
    assert webhook.accepted == [line]
    assert (line["event"], line["task"], line["text"]) == ("bankstream.alarm", "gold", "gold failed")


def test_an_undelivered_alarm_is_logged_without_the_address(
    environment: dict[str, str], webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.codes = [503, 503, 404]
    address = f"http://127.0.0.1:{webhook.server_port}/secret-token"
    assert raise_alarm(environment, address)[0] is False
    webhook.shutdown()
    webhook.server_close()
    assert raise_alarm(environment, address)[0] is False
    undelivered = [line for line in lines(caplog) if line["event"] == "bankstream.alarm.undelivered"]
    assert [line["why"] for line in undelivered] == ["it answered 404", "ConnectionRefusedError"]
    assert "secret-token" not in caplog.text


def test_an_alarm_has_our_own_findings_and_only_the_kind_of_other_errors() -> None:
    told, commands = module("alarm").told, module("commands")
    around = RuntimeError("as Airflow wraps it")
    around.__cause__ = commands.FindingError("1 of 2 not good")
    assert told(around) == "1 of 2 not good"
    assert told(commands.CommandError("dbt ended")) == "dbt ended"
    assert told(ValueError("numeric value 'SECRET' is not recognized")) == "ValueError, see the log"
    assert told(None) == "unknown, see the log"


def test_a_run_that_fails_by_a_task_has_that_tasks_alarm_alone_and_one_that_timed_out_has_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("BANKSTREAM_AIRFLOW_WEBHOOK_URL", raising=False)
    context = {"dag_run": SimpleNamespace(dag_id="bank_warehouse", run_id="r1"), "run_id": "r1"}
    module("alarm").run_failed(context | {"reason": "task_failure"})
    assert lines(caplog) == []
    module("alarm").run_failed(context | {"reason": "timed_out"})
    [line] = lines(caplog)
    assert (line["dag"], line["run"], line["error"]) == ("bank_warehouse", "r1", "timed_out")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRIES", "-1"),
        ("RETRIES", "a"),
        ("RETRY_DELAY_S", "0"),
        ("TASK_TIMEOUT_S", "1.5"),
        ("WEBHOOK_URL", "ftp://secret"),
        ("WEBHOOK_URL", "secret"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(name: str, value: str) -> None:
    settings = module("settings")
    with pytest.raises(settings.SettingsError, match=f"BANKSTREAM_AIRFLOW_{name} has to be") as raised:
        settings.Settings.read({f"BANKSTREAM_AIRFLOW_{name}": value})
    assert "secret" not in str(raised.value)


def test_settings_default_to_the_checkout() -> None:
    found = module("settings").Settings.read({"BANKSTREAM_AIRFLOW_SETTLE_SECONDS": "0"})
    assert found.project == DAGS.parents[2]
    assert (found.programs, found.settle_seconds, found.webhook_url) == (found.project / ".venv" / "bin", 0, None)
    assert "secret" not in repr(
        module("settings").Settings.read({"BANKSTREAM_AIRFLOW_WEBHOOK_URL": "https://a/secret"})
    )
