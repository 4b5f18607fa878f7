"""The file that declares the captured tables: the one shipped with the application, or another one."""

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from app.domain.captured import CapturedTable, TablesError, read_tables
from app.settings import CaptureSettings, load

REQUIRED: Final = {"customers": ("customer_id",), "accounts": ("account_id",), "transactions": ("transaction_id",)}
"""The bank's own tables, which agents know by name."""


def load_tables(path: Path | None) -> tuple[CapturedTable, ...]:
    """The tables of a file; None: of the one shipped with the application. Raises TablesError, which says what is wrong."""
    source = path if path is not None else files("app").joinpath("captured.toml")
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise TablesError(
            f"{source}: {error.strerror}. Set BANKSTREAM_TABLES_FILE to a readable file, or unset it."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TablesError(f"{source}: this is no TOML: {error}. Correct the file and start again.") from None
    return read_tables(document, str(source), REQUIRED)


@cache
def captured_tables() -> tuple[CapturedTable, ...]:
    """The tables that this process works with, from the file that the settings name."""
    return load_tables(load(CaptureSettings).tables_file)
