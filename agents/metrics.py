"""The agents' Prometheus metrics. They count what was applied; a batch whose transaction fails is counted again when it is redone."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Tally(Collector):
    """A counter for what is counted several times a record: a dictionary that is read when Prometheus asks. One that `Counter` counts
    costs half a microsecond."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self.counts: dict[tuple[str, ...], int] = {}
        """By label values. Only the thread that processes records writes it."""
        REGISTRY.register(self)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What was counted so far."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self.counts.copy().items():
            family.add_metric(values, count)
        yield family


CHANGES: Final = Counter(
    "bankstream_changes_total", "Changes of source rows, by what came of them.", ["table", "effect"]
)
VERSIONS: Final = Counter("bankstream_scd2_records_total", "SCD2 records emitted.", ["table", "op", "reason"])
WAITING: Final = Gauge("bankstream_waiting_transactions", "Transactions whose account is not known yet.", ["partition"])
RULES: Final = Tally(
    "bankstream_rule_outcomes_total", "What rules said of transactions they looked at.", ["rule", "outcome"]
)
