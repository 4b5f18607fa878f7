"""The table of forwarded transactions. Key: (account_id, transaction_id).

Value: the log positions and the digest that tell a replay from a change.
"""

from typing import Final

import msgspec

from app.domain.transaction_join import ForwardedTransaction
from app.engine.table import Table
from tables.encoding import number_key

TransactionKey = tuple[int, int]

FORWARDED_TRANSACTIONS: Final[Table[TransactionKey, ForwardedTransaction]] = Table(
    "transactions",
    lambda key: number_key(*key),
    msgspec.msgpack.encode,
    msgspec.msgpack.Decoder(ForwardedTransaction).decode,
)
