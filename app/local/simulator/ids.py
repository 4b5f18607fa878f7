"""Allocates ids for new rows from the database's sequences, in blocks.

A row's id is known before the row is written. A plan therefore gives the same rows in any order of the connections, and no other program
gets the same ids. Ids that are left over at the end are gaps, which every sequence can have.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, LiteralString

import psycopg

from app.local.simulator.writer import PATIENCE_S, RETRY_S

BLOCK: Final = 500


class SequenceIds:
    """Ids for all three tables. Not thread-safe. A lost connection is reopened; a block that is lost with it becomes a gap."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._blocks: dict[LiteralString, deque[int]] = {}

    def customer(self) -> int:
        """Returns the next customer id."""
        return self._next("customers_customer_id_seq")

    def account(self) -> int:
        """Returns the next account id."""
        return self._next("accounts_account_id_seq")

    def transaction(self) -> int:
        """Returns the next transaction id."""
        return self._next("transactions_transaction_id_seq")

    def _next(self, sequence: LiteralString) -> int:
        block = self._blocks.setdefault(sequence, deque())
        if not block:
            block.extend(self._fetch(sequence))
        return block.popleft()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _fetch(self, sequence: LiteralString) -> list[int]:
        """Returns one block. Raises psycopg.OperationalError if PostgreSQL is unavailable for PATIENCE_S."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                    self._connection.autocommit = True
                rows = self._connection.execute(
                    "SELECT nextval(%s::text::regclass) FROM generate_series(1, %s)", [sequence, BLOCK]
                ).fetchall()
                return [number for (number,) in rows]
            except psycopg.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(RETRY_S)
