"""Executes works in order over one connection. After a lost connection it checks whether the last one was committed."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from app.config.settings import PostgresSettings
from app.errors import one_line
from app.local.simulator.errors import SimulationError
from app.local.simulator.statements import Counted, Work
from app.postgres import as_bank

logger = logging.getLogger(__name__)

PATIENCE_S: Final = 60.0
"""PostgreSQL may be unavailable for this long, for example during a restart."""
RETRY_S: Final = 0.2
CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_MS: Final = 30_000
APPLICATION: Final = "bankstream simulate"

Counts = Counter[Counted]


def connect(settings: PostgresSettings) -> psycopg.Connection[Any]:
    """Returns a connection with the account of the bank's software. Raises psycopg.OperationalError."""
    return as_bank(
        settings,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name=APPLICATION,
        options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={STATEMENT_TIMEOUT_MS}",
    )


class Writer:
    """Executes works. After a lost connection it asks PostgreSQL whether the last transaction committed, so no work runs twice."""

    def __init__(self, settings: PostgresSettings, stopping: Callable[[], bool]) -> None:
        self._settings, self._stopping = settings, stopping
        self._connection: psycopg.Connection[Any] | None = None
        self._xid: str | None = None
        """The id of the transaction whose COMMIT was sent and not yet acknowledged. `_counts` has the rows that it wrote."""
        self._counts: Counts = Counter()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def execute(self, works: Sequence[Work]) -> tuple[Counts, int]:
        """Executes the works in one SQL transaction. Returns the rows written and the number of works rolled back.

        A work that violates a constraint, because another program has deleted a customer for example, is rolled back alone. Raises
        SimulationError if PostgreSQL is unavailable for PATIENCE_S.
        """
        lost_s: float | None = None
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._settings)
                    if self._committed():
                        return self._counts, 0
                counts = self._attempt(works)
                return (Counter(), 1) if works[0].rolled_back else (counts, 0)
            except psycopg.errors.IntegrityError as error:
                return self._apart(works, error)
            except psycopg.OperationalError as error:
                lost_s = lost_s or time.monotonic()
                self._wait_out(error, lost_s)

    def _attempt(self, works: Sequence[Work]) -> Counts:
        connection = self._connection
        assert connection is not None
        self._xid = None
        try:
            with connection.pipeline():
                named = connection.execute("SELECT pg_current_xact_id()::text")
                cursors = [
                    (statement.kind.counted, connection.execute(statement.kind.sql, statement.values))
                    for work in works
                    for statement in work.statements
                ]
                row = named.fetchone()
            if works[0].rolled_back:
                connection.rollback()
                return Counter()
            assert row is not None
            self._counts = Counter()
            for counted, cursor in cursors:
                self._counts[counted] += cursor.rowcount
            self._xid = row[0]
            connection.commit()
        except psycopg.Error:
            if not connection.closed:
                connection.rollback()
            raise
        self._xid = None
        return self._counts

    def _apart(self, works: Sequence[Work], error: psycopg.Error) -> tuple[Counts, int]:
        if len(works) == 1:
            logger.info("rolled back: %s", error.diag.message_primary)
            return Counter(), 1
        counts: Counts = Counter()
        rolled_back = 0
        for work in works:
            done, undone = self.execute([work])
            counts += done
            rolled_back += undone
        return counts, rolled_back

    def _committed(self) -> bool:
        """Returns whether the transaction with the unacknowledged COMMIT was committed."""
        xid, connection = self._xid, self._connection
        if xid is None or connection is None:
            return False
        while True:
            row = connection.execute("SELECT pg_xact_status(%s::xid8)", [xid]).fetchone()
            connection.rollback()
            if row is None or row[0] != "in progress":
                self._xid = None
                return row is not None and row[0] == "committed"
            time.sleep(RETRY_S)

    def _wait_out(self, error: psycopg.Error, lost_s: float) -> None:
        if self._stopping() or time.monotonic() - lost_s > PATIENCE_S:
            raise SimulationError(
                f"PostgreSQL at {self._settings.host}:{self._settings.port} has failed for {time.monotonic() - lost_s:.0f} s: "
                f"{one_line(error)}"
            ) from error
        time.sleep(RETRY_S)
