"""Sends a TRUNCATE, which arrives on one partition, as a command to all partitions, in the same transaction as its input offset.

The command closes everything that is older than the TRUNCATE (the table lock makes the log position exact). It is stored, because an older
change may arrive later: partitions are not read in step.
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
    """Send the command to every partition. Raises PoisonRecordError `no_lsn`: only the lsn tells which rows were truncated."""
    if change.lsn is None:
        raise PoisonRecordError("a TRUNCATE without an lsn", reason="no_lsn", stage="apply")
    table_commands.broadcast(TableCommand("truncate", change.table, source), unit)


def store(command: TableCommand, unit: UnitOfWork) -> Truncation:
    """Store the command's TRUNCATE unless a later one is stored. Returns the latest TRUNCATE of the table."""
    assert command.source.lsn is not None
    known = unit.table(TRUNCATIONS).get(command.table)
    if known is not None and known.lsn >= command.source.lsn:
        return known
    truncation = Truncation(command.source.lsn, parse_us(command.source.commit_time), command.source)
    unit.table(TRUNCATIONS).put(command.table, truncation)
    return truncation
