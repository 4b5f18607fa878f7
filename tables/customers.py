"""Current customers. Key: customer_id. Value: the row as the source sent it, its open version and its log position."""

from typing import Final

import msgspec

from app.domain.scd2 import RowState
from app.engine.table import Table
from tables.encoding import number_key

CUSTOMERS: Final[Table[int, RowState]] = Table(
    "customers", number_key, msgspec.json.encode, msgspec.json.Decoder(RowState).decode
)
