"""Lists the processes of a stack with their parts, and the order in which they stop."""

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
"""A part stops before the parts that it uses. Parts of one wave stop in parallel."""


def definitions(parts: Collection[Part], streams_workers: int) -> dict[str, Definition]:
    """Returns the processes of these parts by name, in the order in which they start."""
    found = {part.value: definition for part, definition in _BACKENDS.items() if part in parts}
    for part in (Part.STREAMS, Part.LAKE, Part.LOADER, Part.WATCH):
        if part in parts:
            found |= {name: workers.definition(part, name) for name in workers.process_names(part, streams_workers)}
    return found


def is_backend(definition: Definition) -> bool:
    """Returns whether the process starts before provisioning. The others need what provisioning creates."""
    return definition.part in BACKENDS
