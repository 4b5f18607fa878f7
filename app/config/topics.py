"""The topic catalogue: every topic's name, key, value type, partitions and cleanup policy.

Topics of the bank's own tables are constants, because handlers know those tables by name. A `Catalogue` adds the topics of the other
captured tables. A process builds one when it starts and hands it down.
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

    def partition_count(self, configured: int) -> int:
        """Its partitions, where co-partitioned topics have the configured count."""
        return self.partitions or configured


PREFIX: Final = "bank"


def cdc_topic(table: CapturedTable) -> Topic:
    """Where Debezium writes the changes of a table's rows."""
    return _cdc_topic(table.name, *table.key)


def scd2_topic(table: CapturedTable) -> Topic:
    """Where the versions of a table's rows are opened and closed."""
    return _scd2_topic(table.name, *table.key)


def _cdc_topic(table: str, *key: str) -> Topic:
    return Topic(f"bank.public.{table}", f"{{{', '.join(key)}}}", "Debezium envelope", landing="CDC_EVENTS")


def _scd2_topic(table: str, *key: str) -> Topic:
    return Topic(f"bank.scd2.{table}", f"{{{', '.join(key)}}}", "Scd2Record", landing=f"SCD2_{table.upper()}")


CUSTOMERS: Final = _cdc_topic("customers", "customer_id")
ACCOUNTS: Final = _cdc_topic("accounts", "account_id")
TRANSACTIONS_CDC: Final = _cdc_topic("transactions", "account_id")
"""Keyed by account, not by its primary key, so that a transaction meets its account."""

HEARTBEAT: Final = Topic("bank.public.heartbeat", "{id}", "Debezium envelope", retention_ms=DAY_MS, partitions=1)
"""Changes of the source's heartbeat table: proof that the whole way from WAL to Kafka is alive, and a marker for `reconcile`."""
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
"""Table commands for every partition of the streams groups, such as the fan-out of a TRUNCATE."""
LAKE_OBJECTS: Final = Topic("bank.lake.objects", "{topic}/{partition}", "LakeObject")


@dataclass(frozen=True)
class Catalogue:
    """The topics of a deployment with these captured tables, the bank's own among them."""

    tables: tuple[CapturedTable, ...]

    @cached_property
    def declared(self) -> tuple[CapturedTable, ...]:
        """The tables beside the bank's own: known by their declaration alone."""
        return tuple(table for table in self.tables if table.name not in OWN_TABLES)

    @cached_property
    def cdc(self) -> tuple[Topic, ...]:
        """Topics that Debezium writes, one a captured table."""
        return CUSTOMERS, ACCOUNTS, TRANSACTIONS_CDC, *map(cdc_topic, self.declared)

    @cached_property
    def scd2(self) -> tuple[Topic, ...]:
        """Topics of versions, one a captured table that has them."""
        return SCD2_CUSTOMERS, SCD2_ACCOUNTS, *(scd2_topic(table) for table in self.declared if table.versions)

    @cached_property
    def derived(self) -> tuple[Topic, ...]:
        """Topics that the streams worker writes for others."""
        return *self.scd2, TRANSACTIONS, VELOCITY, ALERTS, DEAD_LETTERS

    @cached_property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic, but for the changelogs."""
        return *self.cdc, *self.derived, HEARTBEAT, CONNECT_HEARTBEAT, SCHEMA_CHANGES, CONTROL, LAKE_OBJECTS

    @cached_property
    def landed(self) -> tuple[Topic, ...]:
        """What the lake archives and the warehouse loads: every raw and derived topic."""
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
        """The captured table of this name. KeyError if there is none."""
        return {table.name: table for table in self.tables}[name]

    def partition_count(self, topic: str, configured: int) -> int:
        """The partitions of a topic. KeyError for one that is not in the catalogue."""
        return self.by_name[topic].partition_count(configured)


def read_catalogue(variables: Mapping[str, str]) -> Catalogue:
    """The catalogue of the tables file that these variables, on top of the environment, name. TablesError says what is wrong in it."""
    return Catalogue(load_tables(read(CaptureSettings, variables).tables_file))
