"""Stores each table command of the control topic once in every partition of the group that owns the table."""

from collections.abc import Mapping

import msgspec

from agents.table_commands import CommandHandler
from app.domain.records import TableCommand
from app.domain.times import instant_us
from app.engine.partition_group import RecordHandler
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError

_commands = msgspec.json.Decoder(TableCommand)


def handler(handlers: Mapping[str, CommandHandler]) -> RecordHandler:
    """Returns the handler of the control topic for one group. `handlers`: by table. It skips commands for tables of other groups."""

    def apply(record: InputRecord, unit: UnitOfWork) -> None:
        if record.value is None:
            return
        try:
            command = _commands.decode(record.value)
            instant_us("source.commit_time", command.source.commit_time)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise PoisonRecordError(f"this is no control order: {error}", reason="not_an_order") from None
        handle = handlers.get(command.table)
        if handle is not None and command.source.lsn is not None:
            handle(command, unit)

    return apply
