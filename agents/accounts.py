"""Accounts. Rule: current state and SCD2 versions follow every change of an account's row; its first row releases what waits for it."""

from typing import Final

from agents import transactions, versions
from app.engine.group import Apply
from app.engine.unit import InputRecord, Unit
from app.topics import SCD2_ACCOUNTS
from tables.accounts import ACCOUNTS

DECLARATION: Final = versions.Versioned("accounts", "account_id", ACCOUNTS, SCD2_ACCOUNTS.name)


def handler(untracked: frozenset[str]) -> Apply:
    """The logic for the accounts' CDC topic."""

    def apply(record: InputRecord, unit: Unit) -> None:
        changed = versions.apply(DECLARATION, untracked, record, unit)
        if changed is not None:
            transactions.release(changed[0], unit)

    return apply
