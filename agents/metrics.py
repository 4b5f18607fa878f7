"""The agents' Prometheus metrics. They count what was applied; a batch whose transaction fails is counted again when it is redone."""

from typing import Final

from prometheus_client import Counter, Gauge

CHANGES: Final = Counter(
    "bankstream_changes_total", "Changes of source rows, by what came of them.", ["table", "effect"]
)
VERSIONS: Final = Counter("bankstream_scd2_records_total", "SCD2 records emitted.", ["table", "op", "reason"])
WAITING: Final = Gauge("bankstream_waiting_transactions", "Transactions whose account is not known yet.", ["partition"])
RULES: Final = Counter(
    "bankstream_rule_outcomes_total", "What rules said of transactions they looked at.", ["rule", "outcome"]
)
