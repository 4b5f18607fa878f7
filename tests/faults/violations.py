"""The findings of a verification: how many records are lost or duplicated, how many states or contents are wrong, and which."""

from dataclasses import dataclass, field
from typing import Final

MAX_DETAILS: Final = 40


@dataclass
class Violations:
    """Collects findings. `details` name topics, offsets, keys and transactions."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    details: list[str] = field(default_factory=list)

    def add(self, detail: str, *, lost: int = 0, doubled: int = 0, wrong: int = 0) -> None:
        """Adds a finding."""
        self.lost, self.doubled, self.wrong = self.lost + lost, self.doubled + doubled, self.wrong + wrong
        if len(self.details) < MAX_DETAILS:
            self.details.append(detail)
