"""Records, for each confirmed transaction, the count and the sum of primary keys of its changed rows by table and kind of change."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import psycopg

from app.config.settings import PostgresSettings
from app.local.simulator.writer import connect

TableName = Literal["customers", "accounts", "transactions"]
Op = Literal["c", "u", "d"]
Changes = dict[tuple[TableName, Op], tuple[int, int]]
"""(rows, sum of their primary keys) by table and kind of change."""
Statement = tuple[str, Sequence[tuple[TableName, Op]], Sequence[Any]]
"""SQL, its kinds of changes, and its parameters. The SQL returns one row with a count and a sum of keys for each kind."""

PATIENCE_S = 120.0
RETRY_S = 0.1


class ConfirmedTransactions:
    """Committed transactions by id (the low 32 bits, as in Debezium's txId). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Changes] = {}
        self.rows = 0
        """Row changes confirmed so far."""
        self.transactions = 0
        self.rolled_back = 0

    def confirm(self, xid: int, changes: Changes) -> None:
        """Records a transaction that PostgreSQL has confirmed as committed."""
        with self._lock:
            self._open[xid & 0xFFFFFFFF] = changes
            self.transactions += 1
            self.rows += sum(rows for rows, _ in changes.values())

    def settle(self, captured: dict[int, Changes]) -> tuple[dict[int, Changes], dict[int, tuple[Changes, Changes]]]:
        """Compares captured with confirmed transactions, and removes equal ones from both.

        Returns the confirmed transactions that were not captured, and (captured, confirmed) of each that differs. `confirmed` is empty for
        a transaction that was captured before, or was never committed.
        """
        with self._lock:
            for xid in [xid for xid, changes in captured.items() if self._open.get(xid) == changes]:
                del captured[xid], self._open[xid]
            missing = {xid: changes for xid, changes in self._open.items() if xid not in captured}
            differing = {xid: (changes, self._open.get(xid, {})) for xid, changes in captured.items()}
            return missing, differing


class Writer:
    """Writes to PostgreSQL and records confirmed transactions. After a lost connection it asks whether its transaction committed."""

    def __init__(self, settings: PostgresSettings, ledger: ConfirmedTransactions, stopping: threading.Event) -> None:
        self._settings, self._ledger, self._stopping = settings, ledger, stopping
        self._connection: psycopg.Connection[Any] | None = None
        self.reconnects = 0

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    def transact(self, statements: Sequence[Statement], *, commit: bool = True) -> bool:
        """Runs these statements in one transaction exactly once, even if the connection is lost. Returns whether it is committed."""
        deadline: float | None = None
        while True:
            xid: int | None = None
            changes: Counter[tuple[TableName, Op]] = Counter()
            sums: Counter[tuple[TableName, Op]] = Counter()
            try:
                connection = self._connected()
                with connection.transaction(force_rollback=not commit):
                    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                    assert row is not None
                    xid = int(row[0])
                    for sql, kinds, parameters in statements:
                        found = connection.execute(sql.encode(), parameters).fetchone() or ()
                        for position, kind in enumerate(kinds):
                            changes[kind] += int(found[2 * position] or 0)
                            sums[kind] += int(found[2 * position + 1] or 0)
                committed = commit
            except psycopg.OperationalError as error:
                self.close()
                clock = time.monotonic()
                deadline = deadline or clock + PATIENCE_S
                if clock > deadline:
                    raise TimeoutError(f"PostgreSQL has been away for {PATIENCE_S} s: {error}") from error
                if self._stopping.wait(RETRY_S) and xid is None:
                    return False
                if xid is None or not self._was_committed(xid, deadline):
                    continue
                committed = True
            made = {kind: (rows, sums[kind]) for kind, rows in changes.items() if rows}
            if committed and xid is not None and made:
                self._ledger.confirm(xid, made)
            elif not committed:
                self._ledger.rolled_back += 1
            return committed

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._settings)
            self._connection.autocommit = True
            self.reconnects += 1
        return self._connection

    def _was_committed(self, xid: int, deadline: float) -> bool:
        """Asks PostgreSQL, until it answers, whether the transaction is committed."""
        while True:
            try:
                row = self._connected().execute("SELECT pg_xact_status(%s::text::xid8)", [xid]).fetchone()
                if row is not None and row[0] in ("committed", "aborted"):
                    return bool(row[0] == "committed")
            except (
                psycopg.errors.InvalidParameterValue
            ):  # "in the future": PostgreSQL crashed before the transaction was in its WAL
                return False
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() > deadline:
                    raise
            threading.Event().wait(RETRY_S)
