"""Replaces the agents of transactions and velocity by their oracles in a worker's topology."""

from collections.abc import Sequence
from dataclasses import replace

from agents import versions
from agents.velocity import NAME
from app.config.rules_file import load_rules
from app.config.settings import WorkerSettings
from app.config.topics import ACCOUNTS, CONTROL, TRANSACTIONS, TRANSACTIONS_CDC
from app.engine.partition_group import PartitionGroup
from app.topology.handlers import BoundGroup, Handlers, control_handler, limits, versioned
from tests.support.catalogue import CATALOGUE
from tests.support.oracle import transactions, velocity


def oracles(topology: Sequence[BoundGroup], settings: WorkerSettings) -> tuple[BoundGroup, ...]:
    """Returns the same groups, with other handlers of the topics of both agents, and of the accounts that transactions wait for."""
    replaced = {
        ACCOUNTS.name: versions.handler(versioned(CATALOGUE.table("accounts"), settings), transactions.release),
        TRANSACTIONS_CDC.name: transactions.handler(limits(settings)),
        TRANSACTIONS.name: velocity.handler(load_rules(settings.rules_file)),
    }
    customers = versioned(CATALOGUE.table("customers"), settings)
    of_customers = {CONTROL.name: control_handler([customers], {NAME: velocity.truncate})}
    return tuple(
        _replaced(*bound, replaced | of_customers if bound[0].name == "by-customer" else replaced) for bound in topology
    )


def _replaced(group: PartitionGroup, handlers: Handlers, by: Handlers) -> BoundGroup:
    tables = (*group.tables, velocity.KEPT)
    return replace(group, tables=tables), {topic: by.get(topic, handler) for topic, handler in handlers.items()}
