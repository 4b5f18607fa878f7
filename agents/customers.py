"""Customers. Rule: current state and SCD2 versions follow every change of a customer's row."""

from typing import Final

from agents import versions
from app.engine.group import Apply
from app.engine.unit import InputRecord, Unit
from app.topics import SCD2_CUSTOMERS
from tables.customers import CUSTOMERS

DECLARATION: Final = versions.Versioned("customers", "customer_id", CUSTOMERS, SCD2_CUSTOMERS.name)


def handler(untracked: frozenset[str]) -> Apply:
    """The logic for the customers' CDC topic."""

    def apply(record: InputRecord, unit: Unit) -> None:
        versions.apply(DECLARATION, untracked, record, unit)

    return apply
