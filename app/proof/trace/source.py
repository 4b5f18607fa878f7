"""Checks PostgreSQL's side of a trace: the log position and the transaction's status. The log itself is recycled and cannot be read."""

from typing import Any, Final

import psycopg

from app.config.settings import SourceSettings
from app.domain.changes import RowChange
from app.postgres import XID_MODULUS, as_reader, lsn_text
from app.proof.trace.report import Check, differs, holds, judged, noted, unreachable

CONNECT_TIMEOUT_S: Final = 10

QUERY: Final = """
    WITH now AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS xmax),
    whole AS (
        SELECT xmax, %(xid)s + %(modulus)s * (div(xmax, %(modulus)s) - (%(xid)s > mod(xmax, %(modulus)s))::int) AS xid FROM now
    )
    SELECT %(lsn)s::pg_lsn <= pg_current_wal_lsn(), CASE WHEN xid < 0 THEN NULL ELSE pg_xact_status(xid::text::xid8) END FROM whole
"""
"""Debezium carries the low 32 bits of a transaction's id. The query takes the latest transaction with these bits that has begun."""


class SourceLog:
    """Queries the source database, in a session for each query, because a trace makes few."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings

    def check(self, change: RowChange) -> list[Check]:
        """Checks the LSN and the transaction of a change in PostgreSQL."""
        if change.lsn is None:
            return [noted("the change has no log position")]
        place = f"LSN {lsn_text(change.lsn)}"
        try:
            behind, status = self._ask(change.lsn, change.tx_id or 0)
        except psycopg.Error as error:
            return [unreachable(f"PostgreSQL does not answer about {place}: {' '.join(str(error).split())}")]
        checks = [
            judged(
                behind,
                f"PostgreSQL's log is past {place}",
                f"{place} is ahead of PostgreSQL's log: this is another database",
            )
        ]
        if change.operation == "r":
            checks.append(noted("the connector read the row in a snapshot"))
        elif change.tx_id is None:
            checks.append(noted("the change names no transaction"))
        elif status is None:
            checks.append(noted(f"transaction {change.tx_id} is too old: PostgreSQL no longer has its status"))
        elif status == "committed":
            checks.append(holds(f"transaction {change.tx_id} committed"))
        else:
            checks.append(differs(f"transaction {change.tx_id} is {status} in PostgreSQL"))
        return checks

    def _ask(self, lsn: int, tx_id: int) -> tuple[bool, str | None]:
        with as_reader(
            self._settings, connect_timeout=CONNECT_TIMEOUT_S, application_name="bankstream trace"
        ) as session:
            row: Any = session.execute(
                QUERY, {"xid": tx_id % XID_MODULUS, "modulus": XID_MODULUS, "lsn": lsn_text(lsn)}
            ).fetchone()
        return bool(row[0]), row[1]
