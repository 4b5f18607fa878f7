"""Tables of which the snapshot behind a capture gap had no row. No row bears the mark of such a table's end, so nobody has been told.

What is missing is known: the connector reads every table, the heartbeat's row last. If that row has been read anew and no row of another
table since the last beat before the gap, that table was empty. Its open versions are closed by the same command that the last row
of a snapshot gives elsewhere (`agents.snapshots`), with the heartbeat's row as its evidence. A command sent twice is applied once.
"""

from collections.abc import Iterable

import msgspec
from aiokafka import TopicPartition

from app.cdc.envelope import decode
from app.config.settings import EngineSettings, KafkaSettings
from app.config.topics import CONTROL, HEARTBEAT, cdc_topic
from app.domain.captured import CapturedTable
from app.domain.changes import RowChange
from app.domain.records import Source, TableCommand, encode
from app.domain.times import format_us
from app.engine.committed_reader import read_all_committed
from app.engine.transactional_producer import TransactionalProducer
from app.errors import BankstreamError, PoisonRecordError
from sinks.gaps import GapRecord

TRANSACTIONAL_ID = "bankstream-gaps-capture"
HEARTBEAT_TABLE = "heartbeat"

Headers = Iterable[tuple[str, bytes]]


class EvidenceError(BankstreamError):
    """Kafka no longer has the heartbeats that show the gap."""


async def close_emptied(
    gap: GapRecord, tables: Iterable[CapturedTable], kafka: KafkaSettings, engine: EngineSettings
) -> list[str]:
    """Order that the versions of tables are closed which were empty behind the gap; answers their names.

    The connector's configuration must be ours: one that reads some of the tables only would make others look empty.
    """
    since_ms, command = await _evidence(gap, kafka)
    emptied = [
        table.name
        for table in tables
        if table.versions and table.whole_snapshots and not await _was_read(table, since_ms, kafka)
    ]
    if emptied:
        transactions = TransactionalProducer(TRANSACTIONAL_ID, kafka, engine)
        await transactions.start()
        try:
            commands = [(None, encode(msgspec.structs.replace(command, table=name))) for name in emptied]
            numbers = range(CONTROL.partition_count(kafka.partitions))
            await transactions.commit({(CONTROL.name, number): commands for number in numbers})
        finally:
            await transactions.stop()
    return emptied


async def _evidence(gap: GapRecord, kafka: KafkaSettings) -> tuple[int, TableCommand]:
    """When the last beat before the gap was recorded, and the command that the heartbeat's row behind it would give."""
    before_ms: int | None = None
    async for record in read_all_committed(kafka, [TopicPartition(HEARTBEAT.name, 0)]):
        beat = _change(record.value, record.headers, HEARTBEAT_TABLE)
        if beat is None:
            continue
        if beat.snapshot != "none" and beat.lsn == gap.resumes_at and before_ms is not None:
            source = Source(
                record.topic, record.partition, record.offset, beat.lsn, beat.tx_id, format_us(beat.commit_us)
            )  # fmt: skip
            return before_ms, TableCommand("snapshot", HEARTBEAT_TABLE, source, record.timestamp)
        before_ms = record.timestamp
    raise EvidenceError(
        f"Kafka no longer has the heartbeats around {gap.name}: which tables were empty behind it cannot be told. `bankstream reconcile` "
        "names the rows that are too many."
    )


async def _was_read(table: CapturedTable, since_ms: int, kafka: KafkaSettings) -> bool:
    """Whether any row of the table was read by a snapshot since then."""
    topic = cdc_topic(table)
    tps = [TopicPartition(topic.name, number) for number in range(topic.partition_count(kafka.partitions))]
    async for record in read_all_committed(kafka, tps, since_ms=since_ms):
        change = _change(record.value, record.headers, table.name)
        if change is not None and change.snapshot != "none":
            return True
    return False


def _change(value: bytes | None, headers: Headers, table: str) -> RowChange | None:
    """None for what is no change: it proves nothing."""
    try:
        return decode(value, tuple(headers), table)
    except PoisonRecordError:
        return None
