"""Defines the topic catalogue: the name, key, value type, partitions and cleanup policy of every topic.

Topics of the bank's own tables are constants, because handlers use those tables by name. A `Catalogue` adds the topics of the other
captured tables. A process builds one when it starts and passes it as an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal

from app.config.captured_tables import OWN_TABLES, load_tables
from app.config.settings import CaptureSettings, read
from app.domain.captured import CapturedTable

DAY_MS: Final = 86_400_000

Cleanup = Literal["delete", "compact", "compact,delete"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the catalogue.

    `partitions` None means the configured count (`BANKSTREAM_TOPIC_PARTITIONS`), which all co-partitioned topics share.
    With `retention_ms` -1 records do not expire (in a compacted topic: the last value of each key).
    """

    name: str
    key: str
    value: str
    cleanup: Cleanup = "delete"
    retention_ms: int = 7 * DAY_MS
    partitions: int | None = None
    landing: str | None = None
    """The warehouse landing table of this topic, in schema BRONZE; None if it is not loaded."""

    def partition_count(self, configured: int) -> int:
        """Returns its partition count. `configured` is the count of co-partitioned topics."""
        return self.partitions or configured


PREFIX: Final = "bank"


def cdc_topic(table: CapturedTable) -> Topic:
    """Returns the topic to which Debezium writes the row changes of a table."""
    return _cdc_topic(table.name, *table.key)


def scd2_topic(table: CapturedTable) -> Topic:
    """Returns the topic of the SCD2 records of a table, which open and close row versions."""
    return _scd2_topic(table.name, *table.key)


def _cdc_topic(table: str, *key: str) -> Topic:
    return Topic(f"bank.public.{table}", f"{{{', '.join(key)}}}", "Debezium envelope", landing="CDC_EVENTS")


def _scd2_topic(table: str, *key: str) -> Topic:
    return Topic(f"bank.scd2.{table}", f"{{{', '.join(key)}}}", "Scd2Record", landing=f"SCD2_{table.upper()}")


CUSTOMERS: Final = _cdc_topic("customers", "customer_id")
ACCOUNTS: Final = _cdc_topic("accounts", "account_id")
TRANSACTIONS_CDC: Final = _cdc_topic("transactions", "account_id")
"""Keyed by account id, not by primary key, so that transactions are co-partitioned with accounts."""

HEARTBEAT: Final = Topic("bank.public.heartbeat", "{id}", "Debezium envelope", retention_ms=DAY_MS, partitions=1)
"""Changes of the source's heartbeat table. They show that capture works from the WAL to Kafka, and are a marker for `reconcile`."""
CONNECT_HEARTBEAT: Final = Topic(
    "__debezium-heartbeat.bank", "{serverName}", "Debezium heartbeat", retention_ms=DAY_MS, partitions=1
)
SCHEMA_CHANGES: Final = Topic("bank", "null", "Debezium schema change", partitions=1)

SCD2_CUSTOMERS: Final = _scd2_topic("customers", "customer_id")
SCD2_ACCOUNTS: Final = _scd2_topic("accounts", "account_id")
TRANSACTIONS: Final = Topic("bank.transactions", "{customer_id}", "TransactionRecord", landing="TRANSACTIONS")
VELOCITY: Final = Topic("bank.velocity", "{customer_id}", "VelocityRecord", landing="VELOCITY")
ALERTS: Final = Topic("bank.alerts", "{customer_id}", "AlertRecord", landing="ALERTS", retention_ms=30 * DAY_MS)
DEAD_LETTERS: Final = Topic(
    "bank.dead-letters", "as the original", "DeadLetter", landing="DEAD_LETTERS", retention_ms=30 * DAY_MS
)
CONTROL: Final = Topic("bank.control", "null", "TableCommand")
"""Table commands for every partition of the partition groups, such as a TRUNCATE that is broadcast."""
LAKE_OBJECTS: Final = Topic("bank.lake.objects", "{topic}/{partition}", "LakeObject")


@dataclass(frozen=True)
class Catalogue:
    """The topics of a deployment with these captured tables, which include the bank's own."""

    tables: tuple[CapturedTable, ...]

    @cached_property
    def declared(self) -> tuple[CapturedTable, ...]:
        """The captured tables other than the bank's own."""
        return tuple(table for table in self.tables if table.name not in OWN_TABLES)

    @cached_property
    def cdc(self) -> tuple[Topic, ...]:
        """Topics that Debezium writes, one for each captured table."""
        return CUSTOMERS, ACCOUNTS, TRANSACTIONS_CDC, *map(cdc_topic, self.declared)

    @cached_property
    def scd2(self) -> tuple[Topic, ...]:
        """Topics of SCD2 records, one for each captured table with versions."""
        return SCD2_CUSTOMERS, SCD2_ACCOUNTS, *(scd2_topic(table) for table in self.declared if table.versions)

    @cached_property
    def derived(self) -> tuple[Topic, ...]:
        """Topics that the streams worker writes."""
        return *self.scd2, TRANSACTIONS, VELOCITY, ALERTS, DEAD_LETTERS

    @cached_property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic except the changelogs."""
        return *self.cdc, *self.derived, HEARTBEAT, CONNECT_HEARTBEAT, SCHEMA_CHANGES, CONTROL, LAKE_OBJECTS

    @cached_property
    def landed(self) -> tuple[Topic, ...]:
        """Topics that the lake archives and the warehouse loads: those with a landing table."""
        return tuple(topic for topic in self.topics if topic.landing is not None)

    @cached_property
    def landing(self) -> Mapping[str, str]:
        """The landing table of each landed topic, by the topic's name."""
        return MappingProxyType({topic.name: topic.landing for topic in self.landed if topic.landing is not None})

    @cached_property
    def by_name(self) -> Mapping[str, Topic]:
        """Every topic by its name."""
        return MappingProxyType({topic.name: topic for topic in self.topics})

    def table(self, name: str) -> CapturedTable:
        """Returns the captured table of this name. Raises KeyError if there is none."""
        return {table.name: table for table in self.tables}[name]

    def partition_count(self, topic: str, configured: int) -> int:
        """Returns the partition count of a topic. Raises KeyError if it is not in the catalogue."""
        return self.by_name[topic].partition_count(configured)


def read_catalogue(variables: Mapping[str, str]) -> Catalogue:
    """Returns the catalogue of the tables file. `variables` override the environment. Raises TablesError if the file is invalid."""
    return Catalogue(load_tables(read(CaptureSettings, variables).tables_file))
