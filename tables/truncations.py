"""The table of the last TRUNCATE of each captured table. Key: the table's name.

Value: the TRUNCATE with its log position. A change with a lower position precedes it, even if the change arrives later.
"""

from typing import Final

import msgspec

from app.domain.scd2 import Truncation
from app.engine.table import Table

TRUNCATIONS: Final[Table[str, Truncation]] = Table(
    "truncations", str.encode, msgspec.json.encode, msgspec.json.Decoder(Truncation).decode
)
