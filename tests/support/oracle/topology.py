"""Replaces the agents of transactions and velocity by their oracles in a worker's topology."""

from collections.abc import Sequence

from agents import versions
from app.config.rules_file import load_rules
from app.config.settings import WorkerSettings
from app.config.topics import ACCOUNTS, TRANSACTIONS, TRANSACTIONS_CDC
from app.topology.handlers import BoundGroup, limits, versioned
from tests.support.catalogue import CATALOGUE
from tests.support.oracle import transactions, velocity


def oracles(topology: Sequence[BoundGroup], settings: WorkerSettings) -> tuple[BoundGroup, ...]:
    """Returns the same groups, with other handlers of the topics of both agents, and of the accounts that transactions wait for."""
    replaced = {
        ACCOUNTS.name: versions.handler(versioned(CATALOGUE.table("accounts"), settings), transactions.release),
        TRANSACTIONS_CDC.name: transactions.handler(limits(settings)),
        TRANSACTIONS.name: velocity.handler(load_rules(settings.rules_file)),
    }
    return tuple(
        (group, {topic: replaced.get(topic, handler) for topic, handler in handlers.items()})
        for group, handlers in topology
    )
