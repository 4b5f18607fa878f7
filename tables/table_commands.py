"""Table commands. Key: due or done, its kind, the table, its log position (0 for done ones: the last counts). Value: the command.

A due one is kept until the partition has processed everything that its part of the table's topic had when the command came.
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
    """What the keys of a table's orders of one kind begin with; they are in the order of their log positions."""
    return f"{state}/{kind}/{table}/".encode()


TABLE_COMMANDS: Final[Table[CommandKey, TableCommand]] = Table(
    "orders", _key, msgspec.json.encode, msgspec.json.Decoder(TableCommand).decode
)
