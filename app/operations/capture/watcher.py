"""`bankstream watch`: looks at the connector and its slot every few seconds, shows both as metrics, and starts again what failed.

Kafka Connect leaves a failed task as it is until somebody asks for a restart, and a task fails for what passes by itself: a broker that
was away for longer than a transaction may take is enough. Meanwhile PostgreSQL keeps its log for the slot, until it must not any more:
then the slot is lost, while the connector's own status goes on to say RUNNING. Each of these is one log line when it begins and one when
it ends.
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
"""A connector that has run for so long has got over what it failed of."""


@dataclass(slots=True)
class RestartBackoff:
    """When a failed connector may be started again: at once, then after pauses that double up to `longest_s`."""

    longest_s: float
    pause_s: float = 0.0
    last_s: float = float("-inf")
    running_since_s: float | None = None

    def running(self, now_s: float) -> None:
        """It runs. After a while of that the next failure is a new one."""
        self.running_since_s = now_s if self.running_since_s is None else self.running_since_s
        if now_s - self.running_since_s >= STEADY_S:
            self.pause_s = 0.0

    def failed(self, now_s: float) -> bool:
        """It has failed: whether to start it again now."""
        self.running_since_s = None
        if now_s - self.last_s < self.pause_s:
            return False
        self.last_s, self.pause_s = now_s, min(max(2 * self.pause_s, FIRST_PAUSE_S), self.longest_s)
        return True


class Watcher:
    """One look a call. Keeps what was seen last, so that only changes are logged."""

    def __init__(self, client: ConnectClient, source: SourceSettings, slot: str, settings: WatchSettings) -> None:
        self._client, self._source, self._slot = client, source, slot
        self._restarts = RestartBackoff(settings.longest_pause_s)
        self._problems: dict[str, str] = {}
        self._confirmed = ""

    def poll(self) -> None:
        """At both. What cannot be asked is a problem like any other: it is logged, and asked again at the next look."""
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
            return "" if slot.active else f"replication slot {self._slot} is not active: nobody reads it"
        captured = f"Changes from {self._confirmed} on are not captured. " if self._confirmed else ""
        if slot is None:
            return f"PostgreSQL has no replication slot {self._slot}. {captured}{cure(self._slot)}"
        captured = captured or f"Changes from {slot.confirmed_lsn} on are not captured. "
        return f"replication slot {self._slot} is lost: PostgreSQL has removed log that was not read yet. {captured}{cure(self._slot)}"

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
            logger.warning("connector failed and is started again: %s", status.cause)
            metrics.RESTARTS.inc()
            self._client.restart()
        self._say("connector", "" if status.state == "RUNNING" else f"connector is {status.state}")

    def _say(self, what: str, problem: str) -> None:
        """Log a problem when it comes, when it becomes another, and when it goes."""
        before = self._problems.get(what, "")
        self._problems[what] = problem
        if problem and problem != before:
            logger.error("%s: %s", what, problem)
        elif before and not problem:
            logger.info("%s is well again", what)


def watch(watcher: Watcher, wait: Callable[[float], bool], interval_s: float) -> None:
    """Look until `wait` (seconds) says that it is time to stop."""
    while True:
        watcher.poll()
        if wait(interval_s):
            return


def stopping() -> threading.Event:
    """Set by SIGTERM and SIGINT; its `wait` is what `watch` takes."""
    event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: event.set())
    return event
