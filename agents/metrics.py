"""The agents' Prometheus metrics. They count what was applied; a batch whose transaction fails is counted again when it is redone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class BatchedCount:
    """How often all of these label values were counted at once."""

    def __init__(self, labels: Sequence[tuple[str, ...]]) -> None:
        self.labels, self.count = labels, 0


class BatchedCounter(Collector):
    """A counter for what is counted several times a record: a dictionary that is read when Prometheus asks. One that `Counter` counts
    costs half a microsecond."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        """By label values. Only the thread that processes records writes it."""
        self._batched: list[BatchedCount] = []
        REGISTRY.register(self)

    def batched(self, labels: Sequence[tuple[str, ...]]) -> "BatchedCount":
        """Label values that are counted at once."""
        batch = BatchedCount(labels)
        self._batched.append(batch)
        return batch

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What was counted so far."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        counts = self.counts.copy()
        for batch in self._batched:
            for values in batch.labels:
                counts[values] += batch.count
        for values, count in counts.items():
            family.add_metric(values, count)
        yield family


CHANGES: Final = BatchedCounter(
    "bankstream_changes_total", "Changes of source rows, by what came of them.", ["table", "effect"]
)
VERSIONS: Final = Counter("bankstream_scd2_records_total", "SCD2 records emitted.", ["table", "op", "reason"])
WAITING: Final = Gauge("bankstream_waiting_transactions", "Transactions whose account is not known yet.", ["partition"])
RULES: Final = BatchedCounter(
    "bankstream_rule_outcomes_total", "What rules said of transactions they looked at.", ["rule", "outcome"]
)
