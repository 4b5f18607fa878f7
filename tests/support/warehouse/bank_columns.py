"""The columns of the simulated bank's tables as in PostgreSQL's catalogue; an integration test compares them with it."""

from typing import Final

from app.postgres.catalogue import SourceColumn

INSTANT = "timestamp with time zone"
BANK_COLUMNS: Final = {
    "customers": (
        ("customer_id", "bigint"), ("name", "text"), ("email", "text"), ("phone", "text"), ("date_of_birth", "date"),
        ("address_line", "text"), ("city", "text"), ("country_code", "character(2)"), ("kyc_status", "text"), ("risk_rating", "text"),
        ("created_at", INSTANT), ("updated_at", INSTANT),
    ),
    "accounts": (
        ("account_id", "bigint"), ("customer_id", "bigint"), ("type", "text"), ("currency", "character(3)"), ("status", "text"),
        ("balance", "numeric(18,2)"), ("opened_at", INSTANT), ("updated_at", INSTANT),
    ),
    "transactions": (
        ("transaction_id", "bigint"), ("account_id", "bigint"), ("type", "text"), ("amount", "numeric(18,2)"),
        ("currency", "character(3)"), ("status", "text"), ("channel", "text"), ("merchant_id", "text"),
        ("merchant_category", "character(4)"), ("counterparty_account", "text"), ("country_code", "character(2)"),
        ("latitude", "numeric(9,6)"), ("longitude", "numeric(9,6)"), ("device_id", "text"), ("description", "text"),
        ("booked_at", INSTANT), ("created_at", INSTANT),
    ),
}  # fmt: skip


def bank_columns(table: str) -> tuple[SourceColumn, ...]:
    """The columns of one of the bank's tables."""
    return tuple(SourceColumn(name, source_type) for name, source_type in BANK_COLUMNS[table])
