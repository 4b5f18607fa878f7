"""Customers. Rule: current state and SCD2 versions follow every change of a customer's row."""

from agents import versions
from app.config.topics import SCD2_CUSTOMERS
from app.domain.captured import CapturedTable
from tables.customers import CUSTOMERS


def declaration(table: CapturedTable, untracked: frozenset[str]) -> versions.Versioned:
    """Customers, as they are declared."""
    return versions.Versioned(table, CUSTOMERS, SCD2_CUSTOMERS.name, untracked)
