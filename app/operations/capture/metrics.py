"""The Prometheus metrics of capture: their names and their meaning."""

from typing import Final

from prometheus_client import Counter, Gauge

from app.operations.capture.slot import Slot

WAL_STATUSES: Final = ("reserved", "extended", "unreserved", "lost", "missing")
"""PostgreSQL's values of `wal_status`, and `missing`: there is no slot."""

RUNNING: Final = Gauge(
    "bankstream_capture_running", "1 while Connect reports that the connector and its task are running."
)
RESTARTS: Final = Counter("bankstream_capture_restarts_total", "Restarts of a failed connector or task.")
ANSWERS: Final = Gauge(
    "bankstream_capture_answers", "1 if this part answered the last request: connect or postgres.", ["part"]
)
SLOT_ACTIVE: Final = Gauge("bankstream_slot_active", "1 while a client reads the replication slot.")
SLOT_RETAINED_BYTES: Final = Gauge(
    "bankstream_slot_retained_bytes",
    "Bytes of WAL that PostgreSQL keeps for the slot. The slot is lost if they exceed max_slot_wal_keep_size.",
)
SLOT_STATUS: Final = Gauge(
    "bankstream_slot_status", "1 for the current status of the slot, 0 for the others.", ["wal_status"]
)


def show(slot: Slot | None) -> None:
    """Sets the metrics of the slot; None: there is no slot."""
    SLOT_ACTIVE.set(slot is not None and slot.active)
    SLOT_RETAINED_BYTES.set(slot.retained_bytes if slot is not None else 0)
    now = slot.wal_status if slot is not None else "missing"
    for status in WAL_STATUSES:
        SLOT_STATUS.labels(status).set(status == now)
