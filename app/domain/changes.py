"""A change of one row (or of a whole table) in the source database, as the domain sees it."""

from typing import Any, Literal

import msgspec

Row = dict[str, msgspec.Raw]
"""Every column of a row by name. A value is its JSON text exactly as the source sent it: no digit of a number can get lost on the way."""

Key = dict[str, Any]
"""A primary key: its columns and their values."""

Operation = Literal["r", "c", "u", "d", "t"]
"""Snapshot read, insert, update, delete, truncate."""


class RowChange(msgspec.Struct, frozen=True, gc=False):
    """One change. `before` and `after` are there as far as the source has them; a truncate has neither.

    `lsn` is PostgreSQL's log position: with every change of one row it rises (row locks), across rows it says nothing. None: unknown.
    `commit_us` is the time of the source transaction's commit, in microseconds since the epoch.
    """

    table: str
    operation: Operation
    before: Row | None
    after: Row | None
    lsn: int | None
    tx_id: int | None
    commit_us: int
    previous_key: Key | None = None
    """Of a row created by a change of its primary key: the key it had."""
    next_key: Key | None = None
    """Of a row deleted by a change of its primary key: the key it has now."""
    snapshot: Literal["none", "row", "last_row"] = "none"
    """Whether this is a row of a snapshot of the whole table, and the last one. Not so for rows that are read beside the stream
    (incremental snapshots)."""


def equal_values(one: msgspec.Raw | None, other: msgspec.Raw | None) -> bool:
    r"""Whether two column values say the same, however they are written. A missing column is not the same as a NULL.

    >>> equal_values(msgspec.Raw(b'"Z\\u00fcrich"'), msgspec.Raw('"Zürich"'.encode()))
    True
    >>> equal_values(msgspec.Raw(b'""'), msgspec.Raw(b"null")), equal_values(None, msgspec.Raw(b"null"))
    (False, False)
    """
    if one is None or other is None:
        return one is other
    return one == other or _canonical(one) == _canonical(other)


def changed_columns(before: Row, after: Row) -> list[str]:
    """The names of the columns that differ, are new or are gone, in alphabetical order."""
    if before == after:
        return []
    return sorted(name for name in before.keys() | after.keys() if not equal_values(before.get(name), after.get(name)))


def _canonical(value: msgspec.Raw) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(value))
    except msgspec.ValidationError:  # a number beyond what Python reads has one spelling
        return bytes(value)
