"""What the streams worker is composed of: the logic for each topic of its two groups. Importing it starts and claims nothing."""

from dataclasses import replace
from functools import partial

from agents import accounts, control, customers, transactions, velocity, versions, waiting
from app.engine.group import Apply, Group
from app.groups import groups
from app.rules import load_rules
from app.settings import KafkaSettings, WorkerSettings
from app.topics import ACCOUNTS, CONTROL, CUSTOMERS, TRANSACTIONS, TRANSACTIONS_CDC

Handlers = dict[str, Apply]


def logic(settings: WorkerSettings) -> tuple[Handlers, Handlers]:
    """The agents' logic by topic, for each of the two groups. Raises SettingsError for rules that cannot be used."""
    untracked = frozenset(settings.untracked_columns)
    by_account: Handlers = {
        ACCOUNTS.name: accounts.handler(untracked),
        TRANSACTIONS_CDC.name: transactions.handler(limits(settings)),
        CONTROL.name: control.handler(
            {"accounts": partial(versions.truncate, accounts.DECLARATION), "transactions": transactions.truncate}
        ),
    }
    by_customer: Handlers = {
        CUSTOMERS.name: customers.handler(untracked),
        TRANSACTIONS.name: velocity.handler(load_rules(settings.rules_file), settings.velocity_cached_events),
        CONTROL.name: control.handler(
            {"customers": partial(versions.truncate, customers.DECLARATION), "transactions": velocity.truncated}
        ),
    }
    return by_account, by_customer


def limits(settings: WorkerSettings) -> waiting.Limits:
    """How much waits for its account, and how long."""
    return waiting.Limits(settings.waiting_max_records, settings.waiting_max_age_s)


def members(settings: WorkerSettings, kafka: KafkaSettings) -> tuple[tuple[Group, Handlers], tuple[Group, Handlers]]:
    """Both groups with their logic and what time makes due in them."""
    by_account, by_customer = groups(kafka)
    expiring = replace(by_account, punctuate=partial(waiting.expire, limits(settings)))
    of_accounts, of_customers = logic(settings)
    return (expiring, of_accounts), (by_customer, of_customers)
