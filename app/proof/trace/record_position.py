"""Names of places: a record's position in Kafka."""

from typing import NamedTuple


class RecordPosition(NamedTuple):
    """A record of a topic."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"
