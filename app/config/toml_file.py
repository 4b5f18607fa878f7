"""A file that a bank may put in the place of one shipped with the application."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from app.errors import BankstreamError


def read_toml(
    path: Path | None, *, shipped: str, variable: str, error: type[BankstreamError]
) -> tuple[dict[str, Any], str]:
    """The content of the file, or of the shipped one of this name if `path` is None; and what to call it in messages.

    Raises `error` when it cannot be read or is no TOML; `variable` is the setting that names the file.
    """
    source = path if path is not None else files("app").joinpath(shipped)
    try:
        return tomllib.loads(source.read_text(encoding="utf-8")), str(source)
    except OSError as problem:
        raise error(f"{source}: {problem.strerror}. Set {variable} to a readable file, or unset it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{source}: this is no TOML: {problem}. Correct the file and start again.") from None
