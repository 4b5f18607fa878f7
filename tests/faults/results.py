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
    """The bank was to stop, and there is nothing that could be held against what it should be."""
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    recovery_s: list[float] = msgspec.field(default_factory=list)
    """Of each firing from which recovery was measured."""
    landed_s: list[float] = msgspec.field(default_factory=list)
    """Until those records were in the warehouse."""
    drain_s: float = 0.0
    """From the end of the load until everything had come out everywhere."""
    verify_s: float = 0.0
    load_s: float = 0.0
    """Of a random run: how long load and faults went on."""
    minutes: float = 0.0
    kills: int = 0
    """Of a random run: how many workers ended by kill -9."""
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    """How workers ended, by exit code."""
    seconds: float = 0.0
    seed: int = 0
    proofs: list[str] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)
    """What did not hold; empty if all did."""

    @property
    def good(self) -> bool:
        """Whether everything held, and the fault fired."""
        return not self.problems and self.fired > 0 and not (self.lost or self.doubled or self.wrong)


class Results(msgspec.Struct):
    """What a run of the machine writes down."""

    seed: int
    streams_workers: int
    rows: list[FaultResult] = msgspec.field(default_factory=list)


def write(results: Results, path: Path) -> None:
    """As readable JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def read(path: Path) -> Results:
    """From JSON."""
    return msgspec.json.decode(path.read_bytes(), type=Results)
