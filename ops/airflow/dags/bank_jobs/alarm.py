"""Raises an alarm when a task has failed after its retries or a run timed out: a structured log line, also posted to a webhook.

The object has `text`, a sentence that the incoming webhooks of chat programs show; the other fields are for programs. An alarm that cannot
be delivered is logged separately and does not change the result of the run.
"""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from bank_jobs.commands import CommandError, FindingError
from bank_jobs.settings import Settings

log = logging.getLogger("bankstream.alarm")

TIMEOUT_S: Final = 10
PAUSES_S: Final = (1, 4)
"""Pauses between the attempts of a delivery."""
LONGEST: Final = 2_000
"""The maximum number of characters of an error in an alarm."""


def task_failed(context: Mapping[str, Any]) -> None:
    """The `on_failure_callback` of tasks. Airflow calls it once, after the last try."""
    ti = context["task_instance"]
    error = context.get("exception")
    raise_alarm(
        {
            "text": f"{ti.dag_id}: {ti.task_id} failed: {told(error)}",
            "task": ti.task_id,
            "try": ti.try_number,
            "error": told(error),
            "log_url": getattr(ti, "log_url", None),
            **_of_run(context),
        }
    )


def run_failed(context: Mapping[str, Any]) -> None:
    """The `on_failure_callback` of a DAG. It skips a run that failed because of a task, which has raised its own alarm."""
    reason = str(context.get("reason"))
    if reason != "task_failure":
        run = _of_run(context)
        raise_alarm({"text": f"{run['dag']}: the run failed: {reason}", "task": None, "error": reason, **run})


def _of_run(context: Mapping[str, Any]) -> dict[str, Any]:
    run = context.get("dag_run")
    return {"dag": getattr(run, "dag_id", None), "run": context.get("run_id") or getattr(run, "run_id", None)}


def told(error: BaseException | str | None) -> str:
    """Returns the text of an error for an alarm. This project's messages contain no column values; other errors give only their type."""
    ours = (
        getattr(error, "__cause__", None) or error
    )  # Airflow fails a task without retries by its own exception, which wraps this project's
    if isinstance(ours, (CommandError, FindingError)):
        return str(ours)[:LONGEST]
    return "unknown, see the log" if error is None or isinstance(error, str) else f"{type(error).__name__}, see the log"


def raise_alarm(
    alarm: Mapping[str, Any], settings: Settings | None = None, wait: Callable[[float], None] = time.sleep
) -> bool:
    """Logs the alarm, and posts it if a webhook is set. Returns false if the post failed."""
    settings = settings or Settings.read()
    full = {"event": "bankstream.alarm", "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **alarm}
    line = json.dumps(full, ensure_ascii=False)
    log.error("%s", line)
    return settings.webhook_url is None or _posted(settings.webhook_url, line.encode(), wait)


def _posted(address: str, body: bytes, wait: Callable[[float], None]) -> bool:
    request = urllib.request.Request(  # noqa: S310 - the settings admit http and https only
        address, body, {"Content-Type": "application/json", "User-Agent": "bankstream-airflow"}
    )
    why = ""
    for pause in (*PAUSES_S, None):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            why = f"it answered {error.code}"
        except (OSError, ValueError) as error:  # the address is a secret, and urllib's messages may quote it
            why = type(getattr(error, "reason", error)).__name__
        if pause is not None:
            wait(pause)
    log.error("%s", json.dumps({"event": "bankstream.alarm.undelivered", "tries": len(PAUSES_S) + 1, "why": why}))
    return False
