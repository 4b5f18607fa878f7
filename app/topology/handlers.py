"""Builds the topology of the streams worker: each partition group with the handler of each topic. Starts nothing."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from agents import control, table_commands, transactions, velocity, versions, waiting
from agents.table_commands import CommandHandler
from agents.versions import VersionedTable
from app.config.rules_file import load_rules
from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import (
    ACCOUNTS,
    CONTROL,
    CUSTOMERS,
    TRANSACTIONS,
    TRANSACTIONS_CDC,
    Catalogue,
    cdc_topic,
    scd2_topic,
)
from app.domain.captured import CapturedTable
from app.engine.offset_barrier import PendingBarriers
from app.engine.partition_group import PartitionGroup, RecordHandler
from app.native.library import load
from app.native.transaction_join import Joiner
from app.topology.partition_groups import groups
from tables.rows import declared_rows

MEBIBYTE: Final = 1 << 20
Handlers = dict[str, RecordHandler]
BoundGroup = tuple[PartitionGroup, Handlers]


def build_topology(catalogue: Catalogue, settings: WorkerSettings, kafka: KafkaSettings) -> tuple[BoundGroup, ...]:
    """Returns every group, with its punctuation and offset barriers, and its handlers. Raises RulesError for rules that cannot be
    used, and NativeLibraryError if the native library is not there."""
    account, customer = (versioned(catalogue.table(name), settings) for name in ("accounts", "customers"))
    declared = [versioned(table, settings) for table in catalogue.declared if table.versions]
    bounds, library = limits(settings), load()
    joiner = Joiner(library)
    of_accounts: Handlers = {
        ACCOUNTS.name: versions.handler(account, partial(transactions.release, joiner)),
        TRANSACTIONS_CDC.name: transactions.handler(bounds, joiner),
        CONTROL.name: control_handler([account], {transactions.NAME: transactions.truncate}),
    }
    of_customers: Handlers = {
        CUSTOMERS.name: versions.handler(customer),
        TRANSACTIONS.name: velocity.handler(
            load_rules(settings.rules_file), library, settings.velocity_cache_mb * MEBIBYTE
        ),
        CONTROL.name: control_handler([customer], {velocity.NAME: velocity.truncate}),
    }
    by_account, by_customer, *by_key = groups(catalogue, kafka)
    composed: list[BoundGroup] = [
        (
            replace(
                by_account, punctuate=partial(waiting.expire, bounds), pending_barriers=_pending_barriers([account])
            ),
            of_accounts,
        ),
        (replace(by_customer, pending_barriers=_pending_barriers([customer])), of_customers),
    ]
    for group in by_key:
        handlers = {cdc_topic(one.table).name: versions.handler(one) for one in declared}
        composed.append(
            (
                replace(group, pending_barriers=_pending_barriers(declared)),
                {**handlers, CONTROL.name: control_handler(declared, {})},
            )
        )
    return tuple(composed)


def limits(settings: WorkerSettings) -> waiting.Limits:
    """Returns the limits on transactions that wait for their account: number and age."""
    return waiting.Limits(settings.waiting_max_records, settings.waiting_max_age_s)


def versioned(table: CapturedTable, settings: WorkerSettings) -> VersionedTable:
    """Returns the versions of a table: its rows, its topic and the columns whose change opens no version."""
    untracked = frozenset(settings.untracked_columns) if table.untracked is None else table.untracked
    return VersionedTable(table, declared_rows(table), scd2_topic(table).name, untracked)


def control_handler(versioned: Iterable[VersionedTable], others: dict[str, CommandHandler]) -> RecordHandler:
    """Returns the handler of the control topic for a group."""
    return control.handler({**{one.name: table_commands.store for one in versioned}, **others})


def _pending_barriers(versioned: Iterable[VersionedTable]) -> PendingBarriers:
    return table_commands.pending_barriers({
        one.name: (cdc_topic(one.table).name, partial(versions.apply_command, one)) for one in versioned
    })  # fmt: skip
