"""What the streams worker is composed of: the logic for each topic of its groups. Importing it starts and claims nothing."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from agents import accounts, control, customers, table_commands, transactions, velocity, versions, waiting
from agents.table_commands import Obey
from agents.versions import Versioned
from app.config.captured_tables import captured_tables
from app.config.rules_file import load_rules
from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import ACCOUNTS, CONTROL, CUSTOMERS, TRANSACTIONS, TRANSACTIONS_CDC, cdc_topic, scd2_topic
from app.domain.captured import CapturedTable
from app.engine.offset_barrier import PendingBarriers
from app.engine.partition_group import PartitionGroup, RecordHandler
from app.native.library import load
from app.topology.partition_groups import groups, versioned_others
from tables.rows import rows_of

Handlers = dict[str, RecordHandler]
Member = tuple[PartitionGroup, Handlers]


def members(
    settings: WorkerSettings, kafka: KafkaSettings, tables: Iterable[CapturedTable] | None = None
) -> tuple[Member, ...]:
    """Every group with its logic, what time makes due in it, and what it waits for. `tables`: None means those of the settings.

    Raises SettingsError for rules or tables that cannot be used.
    """
    declared = captured_tables() if tables is None else tuple(tables)
    by_name = {table.name: table for table in declared}
    account = accounts.declaration(by_name["accounts"], _untracked(by_name["accounts"], settings))
    customer = customers.declaration(by_name["customers"], _untracked(by_name["customers"], settings))
    rest = [
        Versioned(table, rows_of(table), scd2_topic(table).name, _untracked(table, settings))
        for table in versioned_others(declared)
    ]
    bounds, native = limits(settings), load() if settings.native else None
    of_accounts: Handlers = {
        ACCOUNTS.name: versions.handler(account, accounts.release),
        TRANSACTIONS_CDC.name: transactions.handler(bounds, native),
        CONTROL.name: _control([account], {transactions.NAME: transactions.truncate}),
    }
    of_customers: Handlers = {
        CUSTOMERS.name: versions.handler(customer),
        TRANSACTIONS.name: velocity.handler(load_rules(settings.rules_file), settings.velocity_cached_events, native),
        CONTROL.name: _control([customer], {velocity.NAME: velocity.truncated}),
    }
    by_account, by_customer, *by_key = groups(kafka, declared)
    composed: list[Member] = [
        (
            replace(
                by_account, punctuate=partial(waiting.expire, bounds), pending_barriers=_pending_barriers([account])
            ),
            of_accounts,
        ),
        (replace(by_customer, pending_barriers=_pending_barriers([customer])), of_customers),
    ]
    for group in by_key:
        handlers = {cdc_topic(one.table).name: versions.handler(one) for one in rest}
        composed.append(
            (replace(group, pending_barriers=_pending_barriers(rest)), {**handlers, CONTROL.name: _control(rest, {})})
        )
    return tuple(composed)


def limits(settings: WorkerSettings) -> waiting.Limits:
    """How much waits for its account, and how long."""
    return waiting.Limits(settings.waiting_max_records, settings.waiting_max_age_s)


def _untracked(table: CapturedTable, settings: WorkerSettings) -> frozenset[str]:
    return frozenset(settings.untracked_columns) if table.untracked is None else table.untracked


def _control(versioned: Iterable[Versioned], others: dict[str, Obey]) -> RecordHandler:
    return control.handler({**{one.name: table_commands.keep for one in versioned}, **others})


def _pending_barriers(versioned: Iterable[Versioned]) -> PendingBarriers:
    return table_commands.pending_barriers({
        one.name: (cdc_topic(one.table).name, partial(versions.obey, one)) for one in versioned
    })  # fmt: skip
