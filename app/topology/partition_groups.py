"""Defines the partition groups of the streams worker: their co-partitioned topics and their state tables."""

from functools import partial
from typing import Final

from app.config.settings import KafkaSettings
from app.config.topics import (
    ACCOUNTS,
    CONTROL,
    CUSTOMERS,
    DEAD_LETTERS,
    TRANSACTIONS,
    TRANSACTIONS_CDC,
    Catalogue,
    cdc_topic,
)
from app.engine.partition_group import PartitionGroup
from tables import forwarded_transactions, rows, snapshots, table_commands, truncations, velocity_histories, waiting

STREAMS: Final = "bankstream-streams"
"""The consumer group, also part of transactional ids and changelog names. Changing it abandons the state."""


def groups(catalogue: Catalogue, kafka: KafkaSettings) -> tuple[PartitionGroup, ...]:
    """Returns the groups. by-account: accounts and transactions, which share key bytes. by-customer: customers and the topics keyed by
    customer. by-key: the versioned tables beside the bank's own, if any are declared.

    Every group has the control topic. Changing a group's name, its topics or a table's name abandons state.
    """
    versioned = [table for table in catalogue.declared if table.versions]
    group = partial(
        PartitionGroup, app_id=STREAMS, partitions=kafka.partitions, dead_letter_topic=DEAD_LETTERS.name,
        partitions_of=partial(catalogue.partition_count, configured=kafka.partitions),
    )  # fmt: skip
    by_account = group(
        name="by-account",
        topics=(ACCOUNTS.name, TRANSACTIONS_CDC.name, CONTROL.name),
        tables=(
            rows.ACCOUNTS, forwarded_transactions.FORWARDED_TRANSACTIONS, waiting.WAITING, truncations.TRUNCATIONS, snapshots.SNAPSHOTS,
            table_commands.TABLE_COMMANDS,
        ),
    )  # fmt: skip
    by_customer = group(
        name="by-customer",
        topics=(CUSTOMERS.name, TRANSACTIONS.name, CONTROL.name),
        tables=(
            rows.CUSTOMERS, truncations.TRUNCATIONS, snapshots.SNAPSHOTS, table_commands.TABLE_COMMANDS, *velocity_histories.TABLES,
        ),
        derive=velocity_histories.derive,
    )  # fmt: skip
    if not versioned:
        return by_account, by_customer
    by_key = group(
        name="by-key",
        topics=(*(cdc_topic(table).name for table in versioned), CONTROL.name),
        tables=(*map(rows.declared_rows, versioned), snapshots.SNAPSHOTS, table_commands.TABLE_COMMANDS),
    )
    return by_account, by_customer, by_key
