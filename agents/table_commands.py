"""Rule: an order about a whole table, which comes from one partition, is obeyed on every one, when it has read all that the order is about.

The partitions of a topic are not read in step. So each partition keeps an order until it has processed everything that its part of the
topic had when it heard of it. What the order is about was there by then: the record that it came of was read, so that record's transaction
and all earlier ones of the connector had been decided. A later change of a row that comes first is told to obey it for that row.
"""

from collections.abc import Callable, Mapping
from typing import Final, get_args

from app.config.topics import CONTROL
from app.domain.records import CommandKind, TableCommand, encode
from app.engine.offset_barrier import BarrierKey, PendingBarriers
from app.engine.unit_of_work import UnitOfWork
from tables.encoding import after_prefix
from tables.table_commands import TABLE_COMMANDS, prefix

CommandHandler = Callable[[TableCommand, UnitOfWork], None]

KINDS: Final[tuple[CommandKind, ...]] = get_args(CommandKind)


def broadcast(order: TableCommand, unit: UnitOfWork) -> None:
    """Send an order to every partition."""
    for partition in range(unit.partitions):
        unit.emit(CONTROL.name, key=None, value=encode(order), partition=partition)


def store(order: TableCommand, unit: UnitOfWork) -> None:
    """Keep an order until this partition has come that far. One that is not beyond those that are known is a repetition."""
    if order.source.lsn is not None and last_seen_lsn(order.order, order.table, unit) < order.source.lsn:
        unit.table(TABLE_COMMANDS).put(("due", order.order, order.table, order.source.lsn), order)
        unit.memory.pop(("due", order.table), None)


def pending_commands(table: str, unit: UnitOfWork) -> tuple[TableCommand, ...]:
    """The orders that this partition has yet to obey, by log position. Asked for with every change, so it is kept in memory."""
    cached = unit.memory.get(("due", table))
    if cached is None:
        found = [order for kind in KINDS for order in _of_kind(kind, table, unit)]
        cached = unit.memory["due", table] = tuple(sorted(found, key=command_lsn))
    return cached


def last_seen_lsn(kind: CommandKind, table: str, unit: UnitOfWork) -> int:
    """The log position of the last order of a kind that this partition has heard of; -1: none."""
    done = unit.table(TABLE_COMMANDS).get(("done", kind, table, 0))
    orders = (*_of_kind(kind, table, unit), *(() if done is None else (done,)))
    return max(map(command_lsn, orders), default=-1)


def pending_barriers(tables: Mapping[str, tuple[str, CommandHandler]]) -> PendingBarriers:
    """What the engine has to wait for; `tables` has, by name, the CDC topic and how an order is obeyed when that has been read."""

    def pending(unit: UnitOfWork) -> Mapping[BarrierKey, Callable[[UnitOfWork], None]]:
        return {
            (topic, command_lsn(order)): _obeying(order, obey)
            for name, (topic, obey) in tables.items()
            for order in pending_commands(name, unit)
        }

    return pending


def command_lsn(order: TableCommand) -> int:
    """The log position of what the order is about."""
    assert order.source.lsn is not None
    return order.source.lsn


def _obeying(last: TableCommand, obey: CommandHandler) -> Callable[[UnitOfWork], None]:
    """CommandHandler an order, after those before it."""

    def act(unit: UnitOfWork) -> None:
        for order in pending_commands(last.table, unit):
            if command_lsn(order) <= command_lsn(last):
                obey(order, unit)
                unit.table(TABLE_COMMANDS).delete(("due", order.order, order.table, command_lsn(order)))
                unit.table(TABLE_COMMANDS).put(("done", order.order, order.table, 0), order)
        unit.memory.pop(("due", last.table), None)

    return act


def _of_kind(kind: CommandKind, table: str, unit: UnitOfWork) -> tuple[TableCommand, ...]:
    start = prefix("due", kind, table)
    return tuple(order for _, order in unit.table(TABLE_COMMANDS).scan(start, after_prefix(start)))
