"""Defines the engine's Prometheus metrics, each with its unit and its meaning."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECORDS: Final = Counter("bankstream_records_total", "Input records whose effects are committed.", ["topic"])
TRANSACTION_SECONDS: Final = Histogram(
    "bankstream_transaction_seconds",
    "Seconds to apply, send and commit one batch of one partition.",
    ["group"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
BATCH_RECORDS: Final = Histogram(
    "bankstream_batch_records",
    "Records in one batch.",
    ["group"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
)
RECORD_AGE_SECONDS: Final = Histogram(
    "bankstream_record_age_seconds",
    "Seconds from a record's timestamp to the commit of its effects, for the newest record of each batch.",
    ["topic"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
LAG_RECORDS: Final = Gauge(
    "bankstream_lag_records",
    "Records of the partition in Kafka whose effects are not durable yet.",
    ["topic", "partition"],
)
OPEN_PARTITIONS: Final = Gauge(
    "bankstream_open_partitions", "Partitions that this worker owns and has opened.", ["member"]
)
READY: Final = Gauge(
    "bankstream_ready",
    "1 while this worker has opened and reads all its assigned partitions; 0 before that and during a rebalance.",
)
RESTORED_RECORDS: Final = Counter(
    "bankstream_restored_records_total", "Changelog records replayed to restore partitions.", ["group"]
)
OPEN_SECONDS: Final = Histogram(
    "bankstream_open_seconds",
    "Seconds to fence and restore one partition.",
    ["group"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
DEAD_LETTERS: Final = Counter(
    "bankstream_dead_letters_total", "Records refused, by reason and stage.", ["reason", "stage"]
)
ABANDONED: Final = Counter(
    "bankstream_abandoned_total", "Partitions closed while still busy, at a rebalance or a stop.", ["member"]
)
RESTORES: Final = Counter(
    "bankstream_restores_total",
    "Partitions opened, by the local state found: warm, cold (there was none) or discarded (damaged, too old, or of other changelogs).",
    ["state"],
)
EXITS: Final = Counter(
    "bankstream_exits_total",
    "Exits of earlier workers with the same state directory, by exit code, or `killed` if none was recorded. Kept across restarts.",
    ["code"],
)
LAST_EXIT_CODE: Final = Gauge(
    "bankstream_last_exit_code",
    "Exit code of the previous worker with the same state directory; -1 if it was killed; 0 also if there was none.",
)
LAST_EXIT_TIME: Final = Gauge(
    "bankstream_last_exit_timestamp_seconds",
    "Unix time at which the previous worker ended; for a killed one, when the next one started. 0 if there was none.",
)
