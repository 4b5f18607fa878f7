"""Sends a command about a whole table from one partition to all, and applies it on each after the records that it concerns.

The partitions of a topic are not read in step. So each partition keeps a command until it has processed the topic up to the end offset at
the time when it received the command. The records that the command concerns are below that offset: the record that caused the command had
been read, so its transaction and all earlier transactions of the connector were committed or aborted. If a later change of a row is
processed before that, the command is first applied to that row.
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
    """Store a command as pending. A command whose log position is not above those already received is a repetition and is ignored."""
    if command.source.lsn is not None and last_seen_lsn(command.kind, command.table, unit) < command.source.lsn:
        unit.table(TABLE_COMMANDS).put(("due", command.kind, command.table, command.source.lsn), command)
        unit.cache.pop(("due", command.table), None)


def pending_commands(table: str, unit: UnitOfWork) -> tuple[TableCommand, ...]:
    """Returns the pending commands of this partition by log position. They are read with every change, so they are kept in memory."""
    cached = unit.cache.get(("due", table))
    if cached is None:
        found = [command for kind in KINDS for command in _of_kind(kind, table, unit)]
        cached = unit.cache["due", table] = tuple(sorted(found, key=command_lsn))
    return cached


def last_seen_lsn(kind: CommandKind, table: str, unit: UnitOfWork) -> int:
    """Returns the highest log position of the commands of a kind that this partition has received; -1: none."""
    done = unit.table(TABLE_COMMANDS).get(("done", kind, table, 0))
    commands = (*_of_kind(kind, table, unit), *(() if done is None else (done,)))
    return max(map(command_lsn, commands), default=-1)


def pending_barriers(tables: Mapping[str, tuple[str, CommandHandler]]) -> PendingBarriers:
    """Returns the pending offset barriers for the engine. `tables`: by name, the CDC topic and the handler that applies a command."""

    def pending(unit: UnitOfWork) -> Mapping[BarrierKey, Callable[[UnitOfWork], None]]:
        return {
            (topic, command_lsn(command)): _applying(command, handler)
            for name, (topic, handler) in tables.items()
            for command in pending_commands(name, unit)
        }

    return pending


def command_lsn(command: TableCommand) -> int:
    """Returns the log position of the TRUNCATE or snapshot."""
    assert command.source.lsn is not None
    return command.source.lsn


def _applying(last: TableCommand, handler: CommandHandler) -> Callable[[UnitOfWork], None]:
    """Returns an action that applies a command after the pending commands with lower log positions."""

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
