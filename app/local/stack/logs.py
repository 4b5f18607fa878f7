"""The end of a part's log, for messages."""

from pathlib import Path
from typing import Final

TAIL_LINES: Final = 25
TAIL_BYTES: Final = 16_384


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a file, or nothing if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
