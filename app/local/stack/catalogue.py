"""Every process of a stack with its part: which there are, and in what order they stop."""

from collections.abc import Collection
from typing import Final

from app.local.stack.part import BACKENDS, WORKERS, Definition, Part
from app.local.stack.parts import connect, kafka, postgres, s3, warehouse, workers

_BACKENDS: Final = {
    definition.part: definition
    for definition in (postgres.POSTGRES, kafka.KAFKA, s3.S3, warehouse.WAREHOUSE, connect.CONNECT)
}
STOP_WAVES: Final = (
    WORKERS,
    frozenset({Part.CONNECT, Part.WAREHOUSE}),
    frozenset({Part.KAFKA, Part.POSTGRES, Part.S3}),
)
"""Whoever uses a part stops before it. Parts of one wave stop side by side."""


def definitions(parts: Collection[Part], streams_workers: int) -> dict[str, Definition]:
    """The processes of these parts by name, in the order in which they start."""
    found = {part.value: definition for part, definition in _BACKENDS.items() if part in parts}
    for part in (Part.STREAMS, Part.LAKE, Part.LOADER, Part.WATCH):
        if part in parts:
            found |= {name: workers.definition(part, name) for name in workers.process_names(part, streams_workers)}
    return found


def is_backend(definition: Definition) -> bool:
    """Whether it starts before provisioning (the others need what provisioning makes)."""
    return definition.part in BACKENDS
