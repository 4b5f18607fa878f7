"""The Prometheus metrics of capture: their names and their meaning."""

from typing import Final

from prometheus_client import Counter, Gauge

from app.operations.capture.slot import Slot

WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost", "missing")
"""PostgreSQL's values of `wal_status`, and `missing`: there is no slot."""

RUNNING: Final = Gauge("bankstream_capture_running", "1 while Connect says that connector and task run.")
RESTARTS: Final = Counter("bankstream_capture_restarts_total", "Restarts of a failed connector or task.")
ANSWERS: Final = Gauge("bankstream_capture_answers", "1 while this one answered the last question.", ["part"])
SLOT_ACTIVE: Final = Gauge("bankstream_slot_active", "1 while somebody reads the replication slot.")
SLOT_RETAINED_BYTES: Final = Gauge(
    "bankstream_slot_retained_bytes", "Log that PostgreSQL keeps for the slot; past max_slot_wal_keep_size it is lost."
)
SLOT_STATUS: Final = Gauge("bankstream_slot_status", "1 for the status that the slot has now.", ["wal_status"])


def show(slot: Slot | None) -> None:
    """Sets the metrics of the slot; None: there is no slot."""
    SLOT_ACTIVE.set(slot is not None and slot.active)
    SLOT_RETAINED_BYTES.set(slot.retained_bytes if slot is not None else 0)
    now = slot.wal_status if slot is not None else "missing"
    for status in WAL_STATUSES:
        SLOT_STATUS.labels(status).set(status == now)
