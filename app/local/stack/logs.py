"""Reads the end of a part's log for messages."""

from pathlib import Path
from typing import Final

TAIL_LINES: Final = 25
TAIL_BYTES: Final = 16_384


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Returns the last lines of a file, from its last TAIL_BYTES at most; an empty string if the file does not exist."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
