"""Defines the agents' Prometheus metrics. They count applied changes; a batch whose transaction fails is counted again at its retry."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class BatchedCount:
    """A count that applies to several label values together."""

    def __init__(self, labels: Sequence[tuple[str, ...]]) -> None:
        self.labels, self.count = labels, 0


class BatchedCounter(Collector):
    """A counter that is incremented several times a record: a dictionary, read at each scrape. An increment of Prometheus's `Counter` costs
    half a microsecond."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        """Counts by label values. Only the thread that processes records writes them."""
        self._batched: list[BatchedCount] = []
        REGISTRY.register(self)

    def batched(self, labels: Sequence[tuple[str, ...]]) -> "BatchedCount":
        """Returns a new count that these label values share."""
        batch = BatchedCount(labels)
        self._batched.append(batch)
        return batch

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Yields the counts so far."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        counts = self.counts.copy()
        for batch in self._batched:
            for values in batch.labels:
                counts[values] += batch.count
        for values, count in counts.items():
            family.add_metric(values, count)
        yield family


CHANGES: Final = BatchedCounter("bankstream_changes_total", "Changes of source rows, by effect.", ["table", "effect"])
VERSIONS: Final = Counter("bankstream_scd2_records_total", "SCD2 records emitted.", ["table", "op", "reason"])
WAITING: Final = Gauge("bankstream_waiting_transactions", "Transactions whose account is not known yet.", ["partition"])
RULES: Final = BatchedCounter(
    "bankstream_rule_outcomes_total",
    "Outcomes of the rules for the transactions that they evaluated.",
    ["rule", "outcome"],
)
