"""Numbers for new rows, from the database's own sequences, fetched in blocks.

A row's number is known before the row is written. So one plan gives the same rows whatever the connections' order, and a program beside
this one never gets the same numbers. Those left over at the end are gaps, as any sequence has them.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, LiteralString

import psycopg

from app.local.simulator.writer import PATIENCE_S, RETRY_S

BLOCK: Final = 500


class SequenceIds:
    """Numbers of all three tables. Not for several threads. A lost connection is made anew; a block lost with it is a gap."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
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
            block.extend(self._fetch(sequence))
        return block.popleft()

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()

    def _fetch(self, sequence: LiteralString) -> list[int]:
        """One block. psycopg.OperationalError when PostgreSQL stays away."""
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
