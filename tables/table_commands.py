"""The table of table commands. Key: "due" or "done", kind, captured table, log position. Value: the command.

A command is due until the partition has processed the captured table's topic up to its end offset at the time when the command arrived.
Only the last done command is kept, with 0 as the log position of its key.
"""

from typing import Final, Literal

import msgspec

from app.domain.records import CommandKind, TableCommand
from app.engine.table import Table
from tables.encoding import number_key

CommandKey = tuple[Literal["due", "done"], CommandKind, str, int]


def _key(key: CommandKey) -> bytes:
    state, kind, table, lsn = key
    return prefix(state, kind, table) + number_key(lsn)


def prefix(state: Literal["due", "done"], kind: CommandKind, table: str) -> bytes:
    """Returns the key prefix of a table's commands of one kind. Their keys sort by log position."""
    return f"{state}/{kind}/{table}/".encode()


TABLE_COMMANDS: Final[Table[CommandKey, TableCommand]] = Table(
    "orders", _key, msgspec.json.encode, msgspec.json.Decoder(TableCommand).decode
)
