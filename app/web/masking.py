"""Masks personal data: all columns except those known to hold none. A new column is masked until it is listed here."""

from collections.abc import Mapping
from typing import Final

import msgspec

from app.domain.changes import Row

UNMASKED_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "customers": frozenset({"customer_id", "country_code", "kyc_status", "risk_rating", "created_at", "updated_at"}),
    "accounts": frozenset(
        {"account_id", "customer_id", "type", "currency", "status", "balance", "opened_at", "updated_at"}
    ),
}
"""By table, the columns that anyone with the scope `lookup` may see."""

_MASK: Final = msgspec.Raw(b'"***"')


def masked(table: str, row: Row) -> tuple[Row, list[str]]:
    """Returns the row with its personal data masked, including NULLs, and the names of the masked columns."""
    hidden = sorted(row.keys() - UNMASKED_COLUMNS[table])
    return {**row, **dict.fromkeys(hidden, _MASK)}, hidden
