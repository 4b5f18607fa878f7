"""Names the warehouse's landing tables, ledger and stage, and reads the ledger's rows.

All are in one schema. The topic catalogue has the landing table of each topic (`Topic.landing`).
"""

from collections.abc import Iterable
from typing import Any, Final

from app.errors import ContinuityError
from sinks.base import ChainKey, LedgerRow
from sinks.sql import identifier

SCHEMA: Final = "BRONZE"
LEDGER: Final = "LAKE_LEDGER"


def relation(database: str, name: str) -> str:
    """Returns the full name of a landing table, the ledger or the stage. Raises ValueError for a name that would need quotes.

    >>> relation("BANK", "ALERTS")
    'BANK.BRONZE.ALERTS'
    """
    return f"{identifier(database)}.{SCHEMA}.{identifier(name)}"


def ledger_query(database: str) -> str:
    """Returns the statement whose rows `ledger_rows` takes."""
    return (
        "SELECT topic, incarnation, log_partition, last_offset, last_object, last_sha256 "  # noqa: S608 - an identifier
        f"FROM {relation(database, LEDGER)}"
    )


def ledger_rows(rows: Iterable[tuple[Any, ...]]) -> dict[ChainKey, LedgerRow]:
    """Returns the ledger rows by chain. Raises ContinuityError if a chain has two, because the warehouse does not enforce the key."""
    found: dict[ChainKey, LedgerRow] = {}
    for topic, topic_id, partition, offset, name, sha256 in rows:
        key = ChainKey(topic, topic_id, int(partition))
        if key in found:
            raise ContinuityError(
                f"the ledger has two rows for {key}. Keep the one with the higher offset and remove the other."
            )
        found[key] = LedgerRow(int(offset), name or "", sha256 or "")
    return found
