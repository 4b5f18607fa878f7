"""Names what the sinks use in the warehouse, landing tables, ledger and stage, and says how the ledger is read.

All are in one schema. Which landing table a topic has is in the catalogue of topics (`Topic.landing`).
"""

from collections.abc import Iterable
from typing import Any, Final

from app.errors import ContinuityError
from sinks.base import ChainKey, LedgerRow
from sinks.sql import identifier

SCHEMA: Final = "BRONZE"
LEDGER: Final = "LAKE_LEDGER"


def relation(database: str, name: str) -> str:
    """The full name of a landing table, of the ledger or of the stage. ValueError for a name that would need quotes.

    >>> relation("BANK", "ALERTS")
    'BANK.BRONZE.ALERTS'
    """
    return f"{identifier(database)}.{SCHEMA}.{identifier(name)}"


def ledger_query(database: str) -> str:
    """The statement whose rows `ledger_rows` takes."""
    return (
        "SELECT topic, incarnation, log_partition, last_offset, last_object, last_sha256 "  # noqa: S608 - an identifier
        f"FROM {relation(database, LEDGER)}"
    )


def ledger_rows(rows: Iterable[tuple[Any, ...]]) -> dict[ChainKey, LedgerRow]:
    """Every row of the ledger by its chain. ContinuityError when a chain has two: the warehouse does not enforce the key."""
    found: dict[ChainKey, LedgerRow] = {}
    for topic, topic_id, partition, offset, name, sha256 in rows:
        key = ChainKey(topic, topic_id, int(partition))
        if key in found:
            raise ContinuityError(
                f"the ledger has two rows for {key}. Keep the one with the higher offset, remove the other."
            )
        found[key] = LedgerRow(int(offset), name or "", sha256 or "")
    return found
