"""Stores the results of fault runs as JSON, from which docs/FAULTS.md is written."""

from pathlib import Path

import msgspec


class FaultResult(msgspec.Struct):
    """One row of the table, or one random run."""

    name: str
    number: int
    does: str
    holds: str
    fired: int = 0
    events: int = 0
    """Row changes that PostgreSQL confirmed while the row ran."""
    stopped: bool = False
    """Whether the bank had to stop. Then its output is not verified."""
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    recovery_s: list[float] = msgspec.field(default_factory=list)
    """Recovery time after each firing for which it was measured."""
    landed_s: list[float] = msgspec.field(default_factory=list)
    """Time until those records were in the warehouse."""
    drain_s: float = 0.0
    """From the end of the load until everything had reached the derived topics, the lake and the warehouse."""
    verify_s: float = 0.0
    load_s: float = 0.0
    """Random runs only: duration of load and faults."""
    minutes: float = 0.0
    kills: int = 0
    """Random runs only: number of workers that ended by kill -9."""
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    """Number of worker exits by exit code."""
    seconds: float = 0.0
    seed: int = 0
    proofs: list[str] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)
    """The failed checks; empty if all passed."""

    @property
    def good(self) -> bool:
        """Whether the fault fired and all checks passed."""
        return not self.problems and self.fired > 0 and not (self.lost or self.doubled or self.wrong)


class Results(msgspec.Struct):
    """The results of a run of `python -m tests.faults`."""

    seed: int
    streams_workers: int
    rows: list[FaultResult] = msgspec.field(default_factory=list)


def write(results: Results, path: Path) -> None:
    """Writes indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def read(path: Path) -> Results:
    """Reads JSON."""
    return msgspec.json.decode(path.read_bytes(), type=Results)
