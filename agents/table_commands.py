"""Rule: a command about a whole table comes from one partition. Every partition applies it, when it has read all that it is about.

The partitions of a topic are not read in step. So each partition keeps a command until it has processed everything that its part of the
topic had when it heard of it. What the command is about was there by then: the record that it came of was read, so that record's
transaction and all earlier ones of the connector had been decided. A later change of a row that comes first applies it first, for that row.
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


def broadcast(command: TableCommand, unit: UnitOfWork) -> None:
    """Send a command to every partition."""
    for partition in range(unit.partitions):
        unit.emit(CONTROL.name, key=None, value=encode(command), partition=partition)


def store(command: TableCommand, unit: UnitOfWork) -> None:
    """Keep a command until this partition has come that far. One that is not beyond those that are known is a repetition."""
    if command.source.lsn is not None and last_seen_lsn(command.kind, command.table, unit) < command.source.lsn:
        unit.table(TABLE_COMMANDS).put(("due", command.kind, command.table, command.source.lsn), command)
        unit.cache.pop(("due", command.table), None)


def pending_commands(table: str, unit: UnitOfWork) -> tuple[TableCommand, ...]:
    """The commands that this partition has yet to apply, by log position. Asked for with every change, so it is kept in memory."""
    cached = unit.cache.get(("due", table))
    if cached is None:
        found = [command for kind in KINDS for command in _of_kind(kind, table, unit)]
        cached = unit.cache["due", table] = tuple(sorted(found, key=command_lsn))
    return cached


def last_seen_lsn(kind: CommandKind, table: str, unit: UnitOfWork) -> int:
    """The log position of the last command of a kind that this partition has heard of; -1: none."""
    done = unit.table(TABLE_COMMANDS).get(("done", kind, table, 0))
    commands = (*_of_kind(kind, table, unit), *(() if done is None else (done,)))
    return max(map(command_lsn, commands), default=-1)


def pending_barriers(tables: Mapping[str, tuple[str, CommandHandler]]) -> PendingBarriers:
    """What the engine has to wait for; `tables` has, by name, the CDC topic and how a command is applied when that has been read."""

    def pending(unit: UnitOfWork) -> Mapping[BarrierKey, Callable[[UnitOfWork], None]]:
        return {
            (topic, command_lsn(command)): _applying(command, handler)
            for name, (topic, handler) in tables.items()
            for command in pending_commands(name, unit)
        }

    return pending


def command_lsn(command: TableCommand) -> int:
    """The log position of what the command is about."""
    assert command.source.lsn is not None
    return command.source.lsn


def _applying(last: TableCommand, handler: CommandHandler) -> Callable[[UnitOfWork], None]:
    """Apply a command, after those before it."""

    def act(unit: UnitOfWork) -> None:
        for command in pending_commands(last.table, unit):
            if command_lsn(command) <= command_lsn(last):
                handler(command, unit)
                unit.table(TABLE_COMMANDS).delete(("due", command.kind, command.table, command_lsn(command)))
                unit.table(TABLE_COMMANDS).put(("done", command.kind, command.table, 0), command)
        unit.cache.pop(("due", last.table), None)

    return act


def _of_kind(kind: CommandKind, table: str, unit: UnitOfWork) -> tuple[TableCommand, ...]:
    start = prefix("due", kind, table)
    return tuple(command for _, command in unit.table(TABLE_COMMANDS).scan(start, after_prefix(start)))
