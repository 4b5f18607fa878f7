"""Builds the source of a derived record: the position of the change from which it was derived. Every derived record carries one."""

from app.domain.changes import RowChange
from app.domain.records import Source
from app.domain.times import format_us
from app.engine.unit_of_work import InputRecord


def source_of(record: InputRecord, change: RowChange) -> Source:
    """Returns the position of a change in Kafka and in PostgreSQL."""
    return Source(
        record.topic, record.partition, record.offset, change.lsn, change.tx_id, format_us(change.commit_us)
    )  # fmt: skip
