"""What is known of the snapshots of each table. Key: what, table, partition. Value: the latest of that kind.

`read`: one of which a row came on this partition of the table's topic; it is known by its first. `due`: one that is known to have
ended, and whose missing rows are to be closed when this partition has come that far. `ended`: the last of which that has been done.
"""

from typing import Final, Literal

import msgspec

from app.domain.scd2 import Snapshot
from app.engine.table import Table

SnapshotKey = tuple[Literal["read", "due", "ended"], str, int]


def _key(key: SnapshotKey) -> bytes:
    return "/".join(map(str, key)).encode()


SNAPSHOTS: Final[Table[SnapshotKey, Snapshot]] = Table(
    "snapshots", _key, msgspec.json.encode, msgspec.json.Decoder(Snapshot).decode
)
