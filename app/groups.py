"""The two partition groups of the streams worker: which topics are processed together, and the state they share."""

from functools import partial
from typing import Final

from app.engine.group import Group
from app.settings import KafkaSettings
from app.topics import ACCOUNTS, CONTROL, CUSTOMERS, DEAD_LETTERS, TRANSACTIONS, TRANSACTIONS_CDC, partitions_of
from tables import accounts, customers, transactions, truncations, velocity, waiting

STREAMS: Final = "bankstream-streams"
"""Consumer group, and part of transactional ids and changelog names: changing it abandons the state."""


def groups(kafka: KafkaSettings) -> tuple[Group, Group]:
    """By account: accounts and transactions, which share key bytes. By customer: customers and what is keyed by them.

    The control topic belongs to both. Changing a group's name, its topics or a table's name abandons state.
    """
    count = partial(partitions_of, configured=kafka.partitions)
    by_account = Group(
        app_id=STREAMS,
        name="by-account",
        topics=(ACCOUNTS.name, TRANSACTIONS_CDC.name, CONTROL.name),
        tables=(accounts.ACCOUNTS, transactions.TRANSACTIONS, waiting.WAITING, truncations.TRUNCATIONS),
        partitions=kafka.partitions,
        partitions_of=count,
        dead_letter_topic=DEAD_LETTERS.name,
    )
    by_customer = Group(
        app_id=STREAMS,
        name="by-customer",
        topics=(CUSTOMERS.name, TRANSACTIONS.name, CONTROL.name),
        tables=(customers.CUSTOMERS, truncations.TRUNCATIONS, *velocity.TABLES),
        partitions=kafka.partitions,
        partitions_of=count,
        dead_letter_topic=DEAD_LETTERS.name,
    )
    return by_account, by_customer
