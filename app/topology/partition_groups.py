"""The partition groups of the streams worker: which topics are processed together, and the state they share."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from app.config.captured_tables import captured_tables
from app.config.settings import KafkaSettings
from app.config.topics import (
    ACCOUNTS,
    CONTROL,
    CUSTOMERS,
    DEAD_LETTERS,
    TRANSACTIONS,
    TRANSACTIONS_CDC,
    cdc_topic,
    others,
    partitions_of,
    scd2_topic,
)
from app.domain.captured import CapturedTable
from app.engine.partition_group import PartitionGroup
from tables import (
    accounts,
    customers,
    forwarded_transactions,
    snapshots,
    table_commands,
    truncations,
    velocity,
    waiting,
)
from tables.rows import rows_of

STREAMS: Final = "bankstream-streams"
"""Consumer group, and part of transactional ids and changelog names: changing it abandons the state."""


def groups(kafka: KafkaSettings, tables: Iterable[CapturedTable] | None = None) -> tuple[PartitionGroup, ...]:
    """By account: accounts and transactions, which share key bytes. By customer: customers and what is keyed by them. By key, if there
    are any: the tables that are known by their declaration only.

    The control topic belongs to all. Changing a group's name, its topics or a table's name abandons state.
    """
    declared = versioned_others(tables)
    own = {topic(table).name for table in declared for topic in (cdc_topic, scd2_topic)}

    def count(topic: str) -> int:
        return kafka.partitions if topic in own else partitions_of(topic, kafka.partitions)

    group = partial(
        PartitionGroup, app_id=STREAMS, partitions=kafka.partitions, partitions_of=count, dead_letter_topic=DEAD_LETTERS.name
    )  # fmt: skip
    by_account = group(
        name="by-account",
        topics=(ACCOUNTS.name, TRANSACTIONS_CDC.name, CONTROL.name),
        tables=(
            accounts.ACCOUNTS, forwarded_transactions.TRANSACTIONS, waiting.WAITING, truncations.TRUNCATIONS, snapshots.SNAPSHOTS,
            table_commands.ORDERS,
        ),
    )  # fmt: skip
    by_customer = group(
        name="by-customer",
        topics=(CUSTOMERS.name, TRANSACTIONS.name, CONTROL.name),
        tables=(
            customers.CUSTOMERS,
            truncations.TRUNCATIONS,
            snapshots.SNAPSHOTS,
            table_commands.ORDERS,
            *velocity.TABLES,
        ),
    )
    if not declared:
        return by_account, by_customer
    by_key = group(
        name="by-key",
        topics=(*(cdc_topic(table).name for table in declared), CONTROL.name),
        tables=(*map(rows_of, declared), snapshots.SNAPSHOTS, table_commands.ORDERS),
    )
    return by_account, by_customer, by_key


def versioned_others(tables: Iterable[CapturedTable] | None = None) -> tuple[CapturedTable, ...]:
    """The tables with versions that are known by their declaration only; None: among those of this process's settings."""
    return tuple(table for table in others(captured_tables() if tables is None else tables) if table.versions)
