"""Reads the file that declares the captured tables: the one shipped with the application, or the one that a setting names."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from app.config.toml_file import read_toml
from app.domain.captured import CapturedTable, TablesError, read_tables

OWN_TABLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"customers": ("customer_id",), "accounts": ("account_id",), "transactions": ("transaction_id",)}
)
"""The bank's own tables, which joins and rules know by name, with their keys. Every file declares them."""


def load_tables(path: Path | None) -> tuple[CapturedTable, ...]:
    """The tables of a file; None: of the one shipped with the application. Raises TablesError, which says what is wrong."""
    document, name = read_toml(path, shipped="captured.toml", variable="BANKSTREAM_TABLES_FILE", error=TablesError)
    return read_tables(document, name, OWN_TABLES)
