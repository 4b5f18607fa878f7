"""The alarm: one structured line in the log, and the same object posted to a webhook, when a task has failed for good or a run timed out.

The object has `text`, a sentence for people, which chat programs' incoming webhooks show; the other fields are for programs. An alarm
that cannot be delivered is a line of its own in the log, and the run keeps its own outcome.
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
"""Between the tries of a delivery."""
LONGEST: Final = 2_000
"""Characters of an error that an alarm has."""


def task_failed(context: Mapping[str, Any]) -> None:
    """For `on_failure_callback` of tasks: it is called once, after the last try."""
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
    """For `on_failure_callback` of a DAG. A run that failed by a task has had that task's alarm; this is for all other reasons."""
    reason = str(context.get("reason"))
    if reason != "task_failure":
        run = _of_run(context)
        raise_alarm({"text": f"{run['dag']}: the run failed: {reason}", "task": None, "error": reason, **run})


def _of_run(context: Mapping[str, Any]) -> dict[str, Any]:
    run = context.get("dag_run")
    return {"dag": getattr(run, "dag_id", None), "run": context.get("run_id") or getattr(run, "run_id", None)}


def told(error: BaseException | str | None) -> str:
    """What an alarm says of an error. Our own messages hold no values of columns; of all others only the kind is told."""
    ours = (
        getattr(error, "__cause__", None) or error
    )  # Airflow's way to fail for good is an exception of its own around ours
    if isinstance(ours, (CommandError, FindingError)):
        return str(ours)[:LONGEST]
    return "unknown, see the log" if error is None or isinstance(error, str) else f"{type(error).__name__}, see the log"


def raise_alarm(
    alarm: Mapping[str, Any], settings: Settings | None = None, wait: Callable[[float], None] = time.sleep
) -> bool:
    """Log it, and post it if a webhook is set. Whether it is where it should be."""
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
