"""Debezium's placeholder for a large (TOAST) value that an update did not touch and the log therefore does not have."""

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
"""One of them is in every placeholder: a row without them is passed through quickly."""


def resolve(after: Row, before: Row | None, known: Row | None) -> Row:
    """The row after an update with every placeholder replaced by the value that the column kept: from `before` if the log has it, else
    from the row as it is known. Raises PoisonRecordError `unavailable_value` when neither has it."""
    text = msgspec.json.encode(after)
    if not any(mark in text for mark in _MARKS) or not any(is_placeholder(value) for value in after.values()):
        return after
    return {
        name: _kept(name, before, known) if is_placeholder(value) else value for name, value in after.items()
    }  # fmt: skip


def is_placeholder(value: msgspec.Raw) -> bool:
    """Whether a column value is the placeholder. Only in an update: elsewhere such a text is just a text."""
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
