"""Numbers for new rows, from the database's own sequences, fetched in blocks.

A row's number is known before the row is written. So one plan gives the same rows whatever the connections' order, and a program beside
this one never gets the same numbers. Those left over at the end are gaps, as any sequence has them.
"""

from collections import deque
from typing import Any, Final, LiteralString

import psycopg

BLOCK: Final = 500


class SequenceIds:
    """Numbers of all three tables. Not for several threads."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._blocks: dict[LiteralString, deque[int]] = {}

    def customer(self) -> int:
        """A customer's."""
        return self._next("customers_customer_id_seq")

    def account(self) -> int:
        """An account's."""
        return self._next("accounts_account_id_seq")

    def transaction(self) -> int:
        """A transaction's."""
        return self._next("transactions_transaction_id_seq")

    def _next(self, sequence: LiteralString) -> int:
        block = self._blocks.setdefault(sequence, deque())
        if not block:
            rows = self._connection.execute(
                "SELECT nextval(%s::text::regclass) FROM generate_series(1, %s)", [sequence, BLOCK]
            ).fetchall()
            block.extend(number for (number,) in rows)
        return block.popleft()
