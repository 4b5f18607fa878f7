"""The paths of the project and of the recorded data of its tests."""

from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
DATA: Final = PROJECT / "tests" / "data"
