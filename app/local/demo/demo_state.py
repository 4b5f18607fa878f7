"""Collects what the observers have measured. The views and the summary read only this. Used from the event loop's thread only."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.records import AlertRecord, Scd2Open
from app.local.demo.latency import Histogram
from app.local.stack.events import Died

RECENT_ALERTS: Final = 50
REMEMBERED_ALERTS: Final = 200_000
"""Number of alert ids kept to recognise duplicates. The oldest are dropped; the warehouse's tests check all alerts."""
RECENT_DEATHS: Final = 20
RATE_WINDOW_S: Final = 5.0

RUNNING: Final = "running"
"""The value of `DemoState.doing` while the simulated bank runs and is measured."""

POSTGRES: Final = "PostgreSQL commits"
CDC: Final = "Kafka changes"
DERIVED: Final = "Kafka derived"
OBJECTS: Final = "S3 objects"
WAREHOUSE: Final = "warehouse rows"
STAGES: Final = (POSTGRES, CDC, DERIVED, OBJECTS, WAREHOUSE)


@dataclass(slots=True)
class RateMeter:
    """A count that only grows, and its rate over the last seconds."""

    total: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def sample(self, now: float) -> None:
        """Record the count at time `now`. Called a few times a second."""
        self._samples.append((now, self.total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """The rate over the last RATE_WINDOW_S."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        return (last - first) / (now - began) if now > began else 0.0


@dataclass(frozen=True, slots=True)
class HistoryChange:
    """The latest new version in a customer's history."""

    customer_id: int
    name: str
    valid_from: str
    columns: tuple[tuple[str, str, str], ...]
    """Column, old value and new value of each change."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A process of the stack, as the view shows it."""

    name: str
    state: str
    memory_mb: int | None


class DemoState:
    """Counts since the demo began. `clock` returns seconds; only differences are used."""

    def __init__(self, rate: int, clock: Any = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._began = clock()
        self.stages = {name: RateMeter() for name in STAGES}
        self.commit_to_alert = Histogram()
        self.commit_to_lake = Histogram()
        self.commit_to_warehouse = Histogram()
        self.alerts: deque[AlertRecord] = deque(maxlen=RECENT_ALERTS)
        self.alerts_by_rule: Counter[str] = Counter()
        self.duplicate_alerts = 0
        self.dead_letters = 0
        self.object_bytes = 0
        self.change: HistoryChange | None = None
        self.workers: tuple[WorkerState, ...] = ()
        self.deaths: deque[tuple[float, Died]] = deque(maxlen=RECENT_DEATHS)
        self.died: Counter[str] = Counter()
        self.simulated: Mapping[str, float] = {}
        """The simulator's latest statistics."""
        self.doing = "starting"
        self.dashboard = ""
        """The URL of the dashboard; empty if there is none."""
        self.lookups = ""
        """The URL of the lookup API; empty if there is none."""
        self.resting = False
        """Whether the bank has stopped and the wait for its last changes is over."""
        self._alert_ids: OrderedDict[str, None] = OrderedDict()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return float(self._clock() - self._began)

    def restart_clock(self) -> None:
        """Set the beginning of the demo to now."""
        self._began = self._clock()

    def sample(self) -> None:
        """Record a sample of every count for its rate."""
        for meter in self.stages.values():
            meter.sample(self._clock())

    def alert(self, alert: AlertRecord, latency_us: int | None) -> bool:
        """Add an alert and return whether it is new. `latency_us` is None if its change was committed before the measurement began."""
        if alert.alert_id in self._alert_ids:
            self.duplicate_alerts += 1
            return False
        self._alert_ids[alert.alert_id] = None
        if len(self._alert_ids) > REMEMBERED_ALERTS:
            self._alert_ids.popitem(last=False)
        self.alerts.append(alert)
        self.alerts_by_rule[alert.rule] += 1
        if latency_us is not None:
            self.commit_to_alert.record(latency_us)
        return True

    def version(self, opened: Scd2Open, before: Mapping[str, Any]) -> None:
        """Show a customer's new version. `before` is the previous row."""
        after = opened.attributes
        self.change = HistoryChange(
            customer_id=int(opened.key["customer_id"]),
            name=str(after.get("name", "")),
            valid_from=opened.valid_from,
            columns=tuple((column, _shown(before.get(column)), _shown(after.get(column))) for column in opened.changed),
        )

    def death(self, died: Died) -> None:
        """Record that a process exited unexpectedly."""
        self.deaths.append((self.elapsed_s, died))
        self.died[died.part] += 1

    def latest_death(self, within_s: float) -> tuple[float, Died] | None:
        """Returns the last unexpected exit and its age in seconds, if it is at most `within_s` old."""
        if not self.deaths:
            return None
        at, died = self.deaths[-1]
        ago = self.elapsed_s - at
        return (ago, died) if ago <= within_s else None


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
