"""Defines the Prometheus metrics of the sinks."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

OBJECTS: Final = Counter("bankstream_lake_objects_total", "Objects written by this worker.", ["topic"])
ROWS: Final = Counter("bankstream_lake_rows_total", "Records in the objects written.", ["topic"])
BYTES: Final = Counter("bankstream_lake_bytes_total", "Compressed bytes of the objects written.", ["topic"])
WRAPPED: Final = Counter(
    "bankstream_lake_wrapped_total",
    "Keys and values archived as base64, because the warehouse would reject or change them as JSON.",
    ["topic"],
)
ABANDONED_CHAINS: Final = Counter(
    "bankstream_lake_abandoned_chains_total",
    "Chains of recreated topics whose missing end is not an accepted gap. Counted when a partition is opened.",
    ["topic"],
)
UPLOAD_SECONDS: Final = Histogram(
    "bankstream_lake_upload_seconds", "Seconds to upload one object, retries included.", ["topic"], buckets=SECONDS
)
TAKEN: Final = Counter(
    "bankstream_lake_names_taken_total",
    "Puts whose object name already existed, from another writer or from an earlier attempt whose reply was lost.",
    ["topic"],
)
LAST_OBJECT_TIME: Final = Gauge(
    "bankstream_lake_last_object_timestamp_seconds",
    "When this worker last wrote an object of the topic, in Unix time.",
    ["topic"],
)
STORE_RETRIES: Final = Counter("bankstream_store_retries_total", "Retried calls of the object store.", ["operation"])
ANNOUNCEMENTS_DROPPED: Final = Counter(
    "bankstream_lake_hints_dropped_total", "Announcements not sent; the loader finds the objects by listing."
)

LOAD_SECONDS: Final = Histogram(
    "bankstream_warehouse_load_seconds", "Seconds of one load: copies, ledger and commit.", buckets=SECONDS
)
LAST_LOAD_TIME: Final = Gauge(
    "bankstream_warehouse_last_load_timestamp_seconds", "When this worker last committed a load, in Unix time."
)
LOADER_FAILURES: Final = Counter(
    "bankstream_warehouse_failures_total",
    "Rounds of the loader that failed because the warehouse or the lake did not answer, by step.",
    ["step"],
)
LOAD_OBJECTS: Final = Histogram(
    "bankstream_warehouse_load_objects", "Objects in one load.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
)
LOADED_ROWS: Final = Counter("bankstream_warehouse_rows_total", "Rows loaded and committed.", ["landing"])
CONFLICTS: Final = Counter(
    "bankstream_warehouse_ledger_conflicts_total", "Loads rolled back because another loader had moved the ledger."
)
UNKNOWN: Final = Counter(
    "bankstream_warehouse_unknown_outcomes_total",
    "Loads whose commit had an unknown outcome, which was then read from the ledger.",
)
WAITING_OBJECTS: Final = Gauge("bankstream_warehouse_lag_objects", "Known objects of the lake that are not loaded yet.")
BROKEN_CHAINS: Final = Gauge(
    "bankstream_warehouse_broken_chains", "Partitions that are not loaded because of an error in the lake."
)
STREAMING_LEFT_OUT: Final = Gauge(
    "bankstream_streaming_left_out_rows",
    "Rows of one channel that Snowpipe Streaming could not insert into their table and skipped.",
)
