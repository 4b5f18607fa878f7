"""The last TRUNCATE of each table. Key: table name. Value: its log position; older changes that come later are older than it."""

from typing import Final

import msgspec

from app.domain.scd2 import Truncation
from app.engine.table import Table

TRUNCATIONS: Final[Table[str, Truncation]] = Table(
    "truncations", str.encode, msgspec.json.encode, msgspec.json.Decoder(Truncation).decode
)
