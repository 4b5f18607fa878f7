"""Reads the file that declares the captured tables: the shipped file, or the one that BANKSTREAM_TABLES_FILE names."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from app.config.toml_file import read_toml
from app.domain.captured import CapturedTable, TablesError, read_tables

OWN_TABLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"customers": ("customer_id",), "accounts": ("account_id",), "transactions": ("transaction_id",)}
)
"""The bank's own tables, which joins and rules use by name, with their keys. Every file must declare them."""


def load_tables(path: Path | None) -> tuple[CapturedTable, ...]:
    """Returns the tables of a file; None: of the shipped file. Raises TablesError if the file is invalid."""
    document, name = read_toml(path, shipped="captured.toml", variable="BANKSTREAM_TABLES_FILE", error=TablesError)
    return read_tables(document, name, OWN_TABLES)
