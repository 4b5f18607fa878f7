"""Defines `RowChange`, a decoded change of one row or a TRUNCATE of a whole table, and compares column values."""

from typing import Any, Literal

import msgspec

Row = dict[str, msgspec.Raw]
"""Every column of a row by name. A value is its JSON text exactly as the source sent it, so that a number loses no digit."""

Key = dict[str, Any]
"""A primary key: its columns and their values."""

Operation = Literal["r", "c", "u", "d", "t"]
"""Snapshot read, insert, update, delete, truncate."""


class RowChange(msgspec.Struct, frozen=True, gc=False):
    """One change. `before` and `after` are None if the source did not send them; a truncate has neither.

    `lsn` is PostgreSQL's log position. It rises with every change of one row (row locks); it does not order changes of different rows.
    None: unknown.
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
    """The old key, if this change creates the row because its primary key changed."""
    next_key: Key | None = None
    """The new key, if this change deletes the row because its primary key changed."""
    snapshot: Literal["none", "row", "last_row"] = "none"
    """Whether this is a row, or the last row, of a snapshot of the whole table. Rows of incremental snapshots have "none"."""


def equal_values(one: msgspec.Raw | None, other: msgspec.Raw | None) -> bool:
    r"""Returns whether two column values are equal as JSON, even if their text differs. A missing column does not equal a NULL.

    >>> equal_values(msgspec.Raw(b'"Z\\u00fcrich"'), msgspec.Raw('"Zürich"'.encode()))
    True
    >>> equal_values(msgspec.Raw(b'""'), msgspec.Raw(b"null")), equal_values(None, msgspec.Raw(b"null"))
    (False, False)
    """
    if one is None or other is None:
        return one is other
    return one == other or _canonical(one) == _canonical(other)


def changed_columns(before: Row, after: Row) -> list[str]:
    """Returns the names of the columns that differ, were added or were removed, in alphabetical order."""
    if before == after:
        return []
    return sorted(name for name in before.keys() | after.keys() if not equal_values(before.get(name), after.get(name)))


def _canonical(value: msgspec.Raw) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(value))
    except msgspec.ValidationError:  # a number too large for the decoder is compared as text
        return bytes(value)
