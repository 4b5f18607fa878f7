"""Reads the declarations of the captured tables: primary key, untracked columns, column encodings, SCD2 versions and snapshots."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from app.errors import SettingsError

KeyType = Literal["integer", "text"]
"""How the connector writes a key column: as a JSON number of at most 64 bits, or as a string (text, uuid, date, numeric)."""

ENCODINGS: Final = frozenset(
    {"date", "timestamp-ms", "timestamp-us", "timestamp-ns", "time-ms", "time-us", "time-ns", "variable-decimal"}
)
"""The column encodings that a table may declare for messages without a schema; `decimal:<scale>` is allowed too."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_DECIMAL: Final = re.compile(r"decimal:\d{1,3}", re.ASCII)
_FIELDS: Final = frozenset({"key", "untracked", "encodings", "versions", "whole_snapshots"})


class TablesError(SettingsError):
    """The declared tables are invalid. Raised at start; the message names the file and lists every problem in it."""


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """A table of the source, in schema public."""

    name: str
    key: Mapping[str, KeyType]
    """The columns of its primary key, in the key's order."""
    untracked: frozenset[str] | None = None
    """Columns whose change alone opens no version. None: the columns in BANKSTREAM_UNTRACKED_COLUMNS."""
    encodings: Mapping[str, str] = field(default_factory=dict)
    """The encoding of each column that the connector does not write as text. Used for messages without a schema."""
    versions: bool = True
    """Whether its rows have SCD2 versions."""
    whole_snapshots: bool = True
    """Whether a snapshot reads every row. Only then does a row that is missing from the snapshot count as deleted."""

    @property
    def integer_key(self) -> bool:
        """Returns whether all columns of the key are integers."""
        return all(kind == "integer" for kind in self.key.values())


def read_tables(
    document: Mapping[str, Any], place: str, required: Mapping[str, tuple[str, ...]]
) -> tuple[CapturedTable, ...]:
    """Returns the tables of a document (parsed TOML), in its order. `required` maps each table that a handler needs to its integer key.

    Raises TablesError.
    """
    problems: list[str] = []
    tables = tuple(_table(name, fields, problems) for name, fields in document.items())
    wanted = {name: ", ".join(f'{column} = "integer"' for column in key) for name, key in required.items()}
    found = {table.name: tuple(table.key) for table in tables if table.integer_key}
    problems += [
        f"[{name}] is needed, with key = {{ {wanted[name]} }}"
        for name, key in required.items()
        if found.get(name) != key
    ]
    if problems:
        raise TablesError(f"{place}: {'; '.join(problems)}. Correct the file and start again.")
    return tables


def _table(name: str, fields: object, problems: list[str]) -> CapturedTable:
    if not isinstance(fields, Mapping):
        problems.append(f"{name} is outside of a [table]")
        return CapturedTable(name, {})
    if not _NAME.fullmatch(name) or name == "heartbeat":
        problems.append(f"[{name}]: a table's name is lower case letters, digits and underscores, and not heartbeat")
    problems += [
        f"[{name}] {unknown}: there is no such field, only {', '.join(sorted(_FIELDS))}"
        for unknown in sorted(fields.keys() - _FIELDS)
    ]
    untracked = fields.get("untracked")
    return CapturedTable(
        name=name,
        key=_key(name, fields.get("key"), problems),
        untracked=None if untracked is None else _columns(name, untracked, problems),
        encodings=_encodings(name, fields.get("encodings", {}), problems),
        versions=_flag(name, "versions", fields, problems),
        whole_snapshots=_flag(name, "whole_snapshots", fields, problems),
    )


def _key(name: str, value: object, problems: list[str]) -> dict[str, KeyType]:
    if isinstance(value, Mapping) and value and all(kind in ("integer", "text") for kind in value.values()):
        return dict(value)
    problems.append(
        f'[{name}] key: the columns of the primary key, each "integer" or "text", such as {{ id = "integer" }}'
    )
    return {}


def _columns(name: str, value: object, problems: list[str]) -> frozenset[str]:
    if isinstance(value, list) and all(isinstance(column, str) for column in value):
        return frozenset(value)
    problems.append(f'[{name}] untracked: a list of column names, such as ["updated_at"]')
    return frozenset()


def _encodings(name: str, value: object, problems: list[str]) -> dict[str, str]:
    if isinstance(value, Mapping) and all(
        isinstance(encoding, str) and (encoding in ENCODINGS or _DECIMAL.fullmatch(encoding))
        for encoding in value.values()
    ):
        return dict(value)
    problems.append(
        f"[{name}] encodings: column names, each with decimal:<scale> or one of {', '.join(sorted(ENCODINGS))}"
    )
    return {}


def _flag(name: str, flag: str, fields: Mapping[str, Any], problems: list[str]) -> bool:
    value = fields.get(flag, True)
    if not isinstance(value, bool):
        problems.append(f"[{name}] {flag}: true or false")
    return bool(value)
