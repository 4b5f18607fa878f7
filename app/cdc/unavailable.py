"""Replaces Debezium's placeholder for a large (TOAST) value, which the log lacks because the update did not change the column."""

import base64
from typing import Final

import msgspec

from app.domain.changes import Row
from app.errors import PoisonRecordError

TEXT: Final = "__debezium_unavailable_value"
PLACEHOLDERS: Final = frozenset({
    f'"{TEXT}"'.encode(),  # text, json, uuid
    f'"{base64.b64encode(TEXT.encode()).decode()}"'.encode(),  # bytea
    f'["{TEXT}"]'.encode(),  # arrays of text
    f'{{"{TEXT}":"{TEXT}"}}'.encode(),  # hstore
})  # fmt: skip


_MARKS: Final = (TEXT.encode(), base64.b64encode(TEXT.encode()))
"""Every placeholder contains one of them: a row without them needs no further check."""


def resolve(after: Row, before: Row | None, known: Row | None) -> Row:
    """Returns the row after an update, with every placeholder replaced by the column's unchanged value: from `before` if the log has
    it, else from `known`, the row's last known state. Raises PoisonRecordError `unavailable_value` if neither has it."""
    text = msgspec.json.encode(after)
    if not any(mark in text for mark in _MARKS) or not any(is_placeholder(value) for value in after.values()):
        return after
    return {
        name: _kept(name, before, known) if is_placeholder(value) else value for name, value in after.items()
    }  # fmt: skip


def is_placeholder(value: msgspec.Raw) -> bool:
    """Returns whether a column value is the placeholder. Valid only for updates: in other operations the same text is ordinary data."""
    return 20 < len(bytes(value)) < 80 and bytes(value) in PLACEHOLDERS


def _kept(name: str, before: Row | None, known: Row | None) -> msgspec.Raw:
    for row in (before, known):
        value = None if row is None else row.get(name)
        if value is not None and not is_placeholder(value):
            return value
    raise PoisonRecordError(
        f"column {name!r} was not changed and its value is not in the log, nor is the row known from before. Set REPLICA IDENTITY FULL "
        "on the table, then update the row or take a new snapshot",
        reason="unavailable_value",
    )
