"""The file that declares the captured tables: the one shipped with the application, or another one."""

from functools import cache
from pathlib import Path
from typing import Final

from app.config.settings import CaptureSettings, load
from app.config.toml_file import read_toml
from app.domain.captured import CapturedTable, TablesError, read_tables

REQUIRED: Final = {"customers": ("customer_id",), "accounts": ("account_id",), "transactions": ("transaction_id",)}
"""The bank's own tables, which agents know by name."""


def load_tables(path: Path | None) -> tuple[CapturedTable, ...]:
    """The tables of a file; None: of the one shipped with the application. Raises TablesError, which says what is wrong."""
    document, name = read_toml(path, shipped="captured.toml", variable="BANKSTREAM_TABLES_FILE", error=TablesError)
    return read_tables(document, name, REQUIRED)


@cache
def captured_tables() -> tuple[CapturedTable, ...]:
    """The tables that this process works with, from the file that the settings name."""
    return load_tables(load(CaptureSettings).tables_file)
