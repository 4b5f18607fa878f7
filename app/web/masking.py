"""Personal data: all columns but those that are known to hold none. So a new column is masked until it is listed here."""

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
    """The row with its personal data covered, NULLs too, and the names of the columns that this is about."""
    hidden = sorted(row.keys() - UNMASKED_COLUMNS[table])
    return {**row, **dict.fromkeys(hidden, _MASK)}, hidden
