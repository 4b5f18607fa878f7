"""The table of snapshots. Key: the captured table and a partition of its topic.

Value: the latest snapshot with a row on that partition, as recorded at its first row there.
"""

from typing import Final

import msgspec

from app.domain.scd2 import Snapshot
from app.engine.table import Table

SNAPSHOTS: Final[Table[tuple[str, int], Snapshot]] = Table(
    "snapshots", lambda key: f"{key[0]}/{key[1]}".encode(), msgspec.json.encode, msgspec.json.Decoder(Snapshot).decode
)
