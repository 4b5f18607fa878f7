"""The one catalogue of topics: name, key, value type, partitions, cleanup policy, and who writes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from app.config.captured_tables import REQUIRED, captured_tables
from app.domain.captured import CapturedTable

DAY_MS: Final = 86_400_000

Cleanup = Literal["delete", "compact", "compact,delete"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the catalogue.

    `partitions` None means the configured count (`BANKSTREAM_TOPIC_PARTITIONS`), which all co-partitioned topics share.
    `retention_ms` -1 keeps records for ever (a compacted topic: its last values).
    """

    name: str
    key: str
    value: str
    cleanup: Cleanup = "delete"
    retention_ms: int = 7 * DAY_MS
    partitions: int | None = None
    landing: str | None = None
    """The warehouse landing table of this topic, in schema BRONZE; None if it is not loaded."""


PREFIX: Final = "bank"


def cdc_topic(table: CapturedTable) -> Topic:
    """Where Debezium writes the changes of a table's rows."""
    return Topic(f"bank.public.{table.name}", _key(table), "Debezium envelope", landing="CDC_EVENTS")


def scd2_topic(table: CapturedTable) -> Topic:
    """Where the versions of a table's rows are opened and closed."""
    return Topic(f"bank.scd2.{table.name}", _key(table), "Scd2Record", landing=f"SCD2_{table.name.upper()}")


def _key(table: CapturedTable) -> str:
    return f"{{{', '.join(table.key)}}}"


def others(tables: Iterable[CapturedTable]) -> tuple[CapturedTable, ...]:
    """Those declared beside the bank's own, which agents know by name."""
    return tuple(table for table in tables if table.name not in REQUIRED)


_TABLES: Final = {table.name: table for table in captured_tables()}
_OTHERS: Final = others(captured_tables())

CUSTOMERS: Final = cdc_topic(_TABLES["customers"])
ACCOUNTS: Final = cdc_topic(_TABLES["accounts"])
TRANSACTIONS_CDC: Final = Topic("bank.public.transactions", "{account_id}", "Debezium envelope", landing="CDC_EVENTS")

HEARTBEAT: Final = Topic("bank.public.heartbeat", "{id}", "Debezium envelope", retention_ms=DAY_MS, partitions=1)
"""Changes of the source's heartbeat table: proof that the whole way from WAL to Kafka is alive, and a marker for `reconcile`."""
CONNECT_HEARTBEAT: Final = Topic(
    "__debezium-heartbeat.bank", "{serverName}", "Debezium heartbeat", retention_ms=DAY_MS, partitions=1
)
SCHEMA_CHANGES: Final = Topic("bank", "null", "Debezium schema change", partitions=1)

SCD2_CUSTOMERS: Final = scd2_topic(_TABLES["customers"])
SCD2_ACCOUNTS: Final = scd2_topic(_TABLES["accounts"])
TRANSACTIONS: Final = Topic("bank.transactions", "{customer_id}", "TransactionRecord", landing="TRANSACTIONS")
VELOCITY: Final = Topic("bank.velocity", "{customer_id}", "VelocityRecord", landing="VELOCITY")
ALERTS: Final = Topic("bank.alerts", "{customer_id}", "AlertRecord", landing="ALERTS", retention_ms=30 * DAY_MS)
DEAD_LETTERS: Final = Topic(
    "bank.dead-letters", "as the original", "DeadLetter", landing="DEAD_LETTERS", retention_ms=30 * DAY_MS
)
CONTROL: Final = Topic("bank.control", "null", "ControlRecord")
"""Orders for every partition of the streams groups, such as the fan-out of a TRUNCATE."""
LAKE_OBJECTS: Final = Topic("bank.lake.objects", "{topic}/{partition}", "LakeObject")

CDC: Final = (CUSTOMERS, ACCOUNTS, TRANSACTIONS_CDC, *map(cdc_topic, _OTHERS))
SCD2: Final = (SCD2_CUSTOMERS, SCD2_ACCOUNTS, *(scd2_topic(table) for table in _OTHERS if table.versions))
DERIVED: Final = (*SCD2, TRANSACTIONS, VELOCITY, ALERTS, DEAD_LETTERS)
CATALOGUE: Final = (*CDC, *DERIVED, HEARTBEAT, CONNECT_HEARTBEAT, SCHEMA_CHANGES, CONTROL, LAKE_OBJECTS)
BY_NAME: Final = {topic.name: topic for topic in CATALOGUE}
LANDED: Final = tuple(topic for topic in CATALOGUE if topic.landing is not None)
"""What the lake archives and the warehouse loads: every raw and derived topic."""


def partitions_of(name: str, configured: int) -> int:
    """The partition count of a topic of the catalogue. KeyError for a topic that is not in it."""
    return BY_NAME[name].partitions or configured
