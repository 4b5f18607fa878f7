"""Runs the development tools that tests need, from the directory of the running Python."""

import subprocess
import sys
from pathlib import Path
from typing import Final

BIN: Final = Path(sys.executable).parent


def schema_accepts(schema: str, file: Path) -> bool:
    """Whether a file is valid against one of check-jsonschema's built-in schemas."""
    command: list[str | Path] = [BIN / "check-jsonschema", "--builtin-schema", schema, file]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0
