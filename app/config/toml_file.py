"""Reads a TOML file shipped with the application, or the file that a bank uses instead of it."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from app.errors import BankstreamError


def read_toml(
    path: Path | None, *, shipped: str, variable: str, error: type[BankstreamError]
) -> tuple[dict[str, Any], str]:
    """Returns the content of the file, or of the shipped file of this name if `path` is None, and the file's name for messages.

    Raises `error` if the file cannot be read or is not TOML. `variable` is the setting that names the file.
    """
    source = path if path is not None else files("app").joinpath(shipped)
    try:
        return tomllib.loads(source.read_text(encoding="utf-8")), str(source)
    except OSError as problem:
        raise error(f"{source}: {problem.strerror}. Set {variable} to a readable file, or unset it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{source}: this is no TOML: {problem}. Correct the file and start again.") from None
