"""Names of places: a record's position in Kafka, and a position in PostgreSQL's log as PostgreSQL writes it."""

from typing import NamedTuple


class Position(NamedTuple):
    """A record of a topic."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def lsn_text(lsn: int) -> str:
    """A log position in PostgreSQL's notation.

    >>> lsn_text(28_575_624)
    '0/1B40788'
    """
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
