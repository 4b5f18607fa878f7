"""`bankstream watch`: checks the connector and its slot every few seconds, exports both as metrics, and restarts what failed.

Kafka Connect does not restart a failed task by itself, and a task also fails for transient causes: an outage of the broker that is longer
than the transaction timeout is enough. Meanwhile PostgreSQL keeps WAL for the slot, up to its limit. Past the limit the slot is lost,
while the connector's status is still RUNNING. Each problem is logged once when it begins and once when it ends.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.config.settings import SourceSettings, WatchSettings
from app.operations.capture import metrics
from app.operations.capture.connect import ConnectClient, ConnectorStatus
from app.operations.capture.errors import ConnectorError
from app.operations.capture.slot import Slot, SlotError, cure, read_slot

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
STEADY_S: Final = 60
"""After this time in RUNNING the connector counts as recovered, and the pause starts from zero again."""


@dataclass(slots=True)
class RestartBackoff:
    """The pauses between restarts of a failed connector: none before the first, then pauses that double up to `longest_s`."""

    longest_s: float
    pause_s: float = 0.0
    last_s: float = float("-inf")
    running_since_s: float | None = None

    def running(self, now_s: float) -> None:
        """Records that the connector runs. After STEADY_S the pause is reset, so that the next failure is restarted at once."""
        self.running_since_s = now_s if self.running_since_s is None else self.running_since_s
        if now_s - self.running_since_s >= STEADY_S:
            self.pause_s = 0.0

    def failed(self, now_s: float) -> bool:
        """Records that the connector has failed. Returns whether to restart it now."""
        self.running_since_s = None
        if now_s - self.last_s < self.pause_s:
            return False
        self.last_s, self.pause_s = now_s, min(max(2 * self.pause_s, FIRST_PAUSE_S), self.longest_s)
        return True


class Watcher:
    """Checks the slot and the connector. Keeps the last problem of each, so that only changes are logged."""

    def __init__(self, client: ConnectClient, source: SourceSettings, slot: str, settings: WatchSettings) -> None:
        self._client, self._source, self._slot = client, source, slot
        self._restarts = RestartBackoff(settings.longest_pause_s)
        self._problems: dict[str, str] = {}
        self._confirmed = ""

    def poll(self) -> None:
        """Checks both once. A part that does not answer is logged as a problem and is checked again at the next call."""
        self._look_at_slot()
        self._look_at_connector()

    def _look_at_slot(self) -> None:
        try:
            slot = read_slot(self._source, self._slot)
        except SlotError as error:
            metrics.ANSWERS.labels("postgres").set(0)
            self._say("postgres", str(error))
            return
        metrics.ANSWERS.labels("postgres").set(1)
        self._say("postgres", "")
        metrics.show(slot)
        self._say("slot", self._slot_problem(slot))
        if slot is not None and slot.wal_status != "lost":
            self._confirmed = slot.confirmed_lsn

    def _slot_problem(self, slot: Slot | None) -> str:
        if slot is not None and slot.wal_status != "lost":
            return "" if slot.active else f"replication slot {self._slot} is not active: it has no reader"
        captured = f"Changes from {self._confirmed} on are not captured. " if self._confirmed else ""
        if slot is None:
            return f"PostgreSQL has no replication slot {self._slot}. {captured}{cure(self._slot)}"
        captured = captured or f"Changes from {slot.confirmed_lsn} on are not captured. "
        return f"replication slot {self._slot} is lost: PostgreSQL has removed WAL that was not read yet. {captured}{cure(self._slot)}"

    def _look_at_connector(self) -> None:
        try:
            status = self._client.status()
            metrics.ANSWERS.labels("connect").set(1)
            self._say("connect", "")
            self._keep_going(status)
        except ConnectorError as error:
            metrics.ANSWERS.labels("connect").set(0)
            metrics.RUNNING.set(0)
            self._say("connect", str(error))

    def _keep_going(self, status: ConnectorStatus) -> None:
        metrics.RUNNING.set(status.state == "RUNNING")
        if status.state == "RUNNING":
            self._restarts.running(time.monotonic())
        elif status.state == "FAILED" and self._restarts.failed(time.monotonic()):
            logger.warning("connector failed and is restarted: %s", status.cause)
            metrics.RESTARTS.inc()
            self._client.restart()
        self._say("connector", "" if status.state == "RUNNING" else f"connector is {status.state}")

    def _say(self, what: str, problem: str) -> None:
        """Logs a problem when it begins, when it changes, and when it ends."""
        before = self._problems.get(what, "")
        self._problems[what] = problem
        if problem and problem != before:
            logger.error("%s: %s", what, problem)
        elif before and not problem:
            logger.info("%s has recovered", what)


def watch(watcher: Watcher, wait: Callable[[float], bool], interval_s: float) -> None:
    """Checks every `interval_s` seconds until `wait` (seconds) returns true."""
    while True:
        watcher.poll()
        if wait(interval_s):
            return


def stopping() -> threading.Event:
    """Returns an event that SIGTERM and SIGINT set; its `wait` is the argument of `watch`."""
    event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: event.set())
    return event
