"""One reconciliation: the snapshot, the fence, and then table by table both sides' rows next to each other."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from app.config.settings import KafkaSettings, S3Settings, SnowflakeSettings, SourceSettings, read
from app.config.topics import read_catalogue
from app.proof.reconcile import barrier
from app.proof.reconcile.comparing import compare
from app.proof.reconcile.report import Report, SnapshotPosition
from app.proof.reconcile.source import TABLES, SourceReader, opened
from app.proof.reconcile.warehouse import WarehouseReader

TIMEOUT_S: Final = 120.0

OnProgress = Callable[[str], None]


def reconcile(
    environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S, say: OnProgress = lambda _text: None
) -> Report:
    """Compare all captured tables at one position, under load. `environment` has settings that go before the process's own.

    `say` is told what is being done. `timeout_s` is for the way from the source to the warehouse, not for the comparison. Raises
    ReconcileError or SinkError when no comparison can be made; differences are a result.
    """
    began = time.monotonic()
    with opened(read(SourceSettings, environment)) as source:
        topics = [topic.name for topic in read_catalogue(environment).cdc]
        offsets = asyncio.run(_fence(environment, topics, timeout_s, say))
        lake = read(S3Settings, environment)
        with contextlib.closing(WarehouseReader(read(SnowflakeSettings, environment), lake)) as warehouse:
            ids = asyncio.run(barrier.topic_ids(read(KafkaSettings, environment), topics))
            barrier.wait_for_ledger(warehouse, offsets, ids, timeout_s=timeout_s, say=say)
            named = {f"{p.topic}/{p.partition}": offset for p, offset in sorted(offsets.items())}
            return compare_tables(source, warehouse, named, began=began, say=say)


async def _fence(
    environment: Mapping[str, str], topics: Sequence[str], timeout_s: float, say: OnProgress
) -> barrier.Offsets:
    kafka, source = read(KafkaSettings, environment), read(SourceSettings, environment)
    return await barrier.everything_committed(kafka, source, topics, timeout_s=timeout_s, say=say)


def compare_tables(
    source: SourceReader,
    warehouse: WarehouseReader,
    offsets: dict[str, int],
    *,
    began: float,
    say: OnProgress = lambda _text: None,
) -> Report:
    """The comparison alone, of what the landing tables hold now."""
    tables = {}
    for table in TABLES:
        say(f"comparing {table}")
        columns = source.columns(table)
        tables[table] = compare(
            source.rows(table, columns),
            warehouse.rows(table, columns, source.snapshot),
            columns,
            lambda rows, name=table: say(f"comparing {name}: {rows:,} rows"),  # type: ignore[misc]
        )
    snapshot = source.snapshot
    return Report(
        reconciled=all(table.equal for table in tables.values()),
        tables=tables,
        position=SnapshotPosition(snapshot.text, snapshot.taken_at, snapshot.lsn, offsets),
        seconds=round(time.monotonic() - began, 3),
    )
