"""Snapshots. Key: table and partition of its topic. Value: the latest snapshot of which a row came there, known by its first."""

from typing import Final

import msgspec

from app.domain.scd2 import Snapshot
from app.engine.table import Table

SNAPSHOTS: Final[Table[tuple[str, int], Snapshot]] = Table(
    "snapshots", lambda key: f"{key[0]}/{key[1]}".encode(), msgspec.json.encode, msgspec.json.Decoder(Snapshot).decode
)
