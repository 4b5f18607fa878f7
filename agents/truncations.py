"""Rule: a TRUNCATE, which comes on one partition, is an order to all of them, in the same transaction as its position.

An order closes what is older than itself (the table lock makes the log position exact) and is remembered, because an older change may
come later: partitions are not read in step.
"""

from agents import table_commands
from app.domain.changes import RowChange
from app.domain.records import Source, TableCommand
from app.domain.scd2 import Truncation
from app.domain.times import parse_us
from app.engine.unit_of_work import UnitOfWork
from app.errors import PoisonRecordError
from tables.truncations import TRUNCATIONS


def broadcast(change: RowChange, source: Source, unit: UnitOfWork) -> None:
    """Send the order to every partition. Raises PoisonRecordError `no_lsn`: without it nobody knows what was truncated."""
    if change.lsn is None:
        raise PoisonRecordError("a TRUNCATE without an lsn", reason="no_lsn", stage="apply")
    table_commands.broadcast(TableCommand("truncate", change.table, source), unit)


def store(order: TableCommand, unit: UnitOfWork) -> Truncation:
    """Keep the order; answers the latest that is known of its table."""
    assert order.source.lsn is not None
    known = unit.table(TRUNCATIONS).get(order.table)
    if known is not None and known.lsn >= order.source.lsn:
        return known
    truncation = Truncation(order.source.lsn, parse_us(order.source.commit_time), order.source)
    unit.table(TRUNCATIONS).put(order.table, truncation)
    return truncation
