"""Accounts. Rule: current state and SCD2 versions follow every change of an account's row; its first row releases what waits for it."""

from agents import transactions, versions
from app.config.topics import SCD2_ACCOUNTS
from app.domain.captured import CapturedTable
from app.engine.unit import Unit
from tables.accounts import ACCOUNTS
from tables.rows import RowKey


def declaration(table: CapturedTable, untracked: frozenset[str]) -> versions.Versioned:
    """Accounts, as they are declared."""
    return versions.Versioned(table, ACCOUNTS, SCD2_ACCOUNTS.name, untracked)


def release(key: RowKey, unit: Unit) -> None:
    """Let go what waits for the account with this key."""
    (account_id,) = key
    assert isinstance(account_id, int)
    transactions.release(account_id, unit)
