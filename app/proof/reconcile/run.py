"""Runs a reconciliation: takes the snapshot, waits for the barrier, and compares both sides table by table."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition

from app.config.captured_tables import OWN_TABLES
from app.config.settings import CaptureSettings, KafkaSettings, S3Settings, SnowflakeSettings, SourceSettings, read
from app.config.topics import Catalogue, cdc_topic, read_catalogue
from app.domain.captured import CapturedTable
from app.proof.reconcile import barrier
from app.proof.reconcile.comparing import compare
from app.proof.reconcile.report import Report, SnapshotPosition
from app.proof.reconcile.source import SourceReader, opened
from app.proof.reconcile.warehouse import CurrentRowsReader
from app.runtime.progress import OnProgress

TIMEOUT_S: Final = 120.0
SHIPPED: Final = "app/captured.toml"


@dataclass(frozen=True, slots=True)
class Declaration:
    """The tables to compare, in the order of the report, and the file that declares them."""

    tables: tuple[CapturedTable, ...]
    file: str

    @classmethod
    def of(cls, catalogue: Catalogue, file: str) -> "Declaration":
        """Returns the bank's own tables first, then the others in the order of the file."""
        return cls((*map(catalogue.table, OWN_TABLES), *catalogue.declared), file)


def reconcile(
    environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S, on_progress: OnProgress = lambda _text: None
) -> Report:
    """Compares all declared tables at one position, under load. `environment` overrides the process's variables.

    `on_progress` is called with the current step. `timeout_s` limits the wait for changes to arrive in the
    warehouse, not the comparison. Raises
    ReconcileError or SinkError if no comparison can be made; differences are part of the report.
    """
    began = time.monotonic()
    catalogue, file = read_catalogue(environment), str(read(CaptureSettings, environment).tables_file or SHIPPED)
    declaration, topics = Declaration.of(catalogue, file), [topic.name for topic in catalogue.cdc]
    kafka, origin = read(KafkaSettings, environment), read(SourceSettings, environment)
    with opened(origin) as source:
        offsets = asyncio.run(
            barrier.everything_committed(kafka, origin, topics, timeout_s=timeout_s, on_progress=on_progress)
        )
        lake = read(S3Settings, environment)
        with contextlib.closing(CurrentRowsReader(read(SnowflakeSettings, environment), lake)) as warehouse:
            ids = asyncio.run(barrier.topic_ids(kafka, topics))
            barrier.wait_for_ledger(warehouse, offsets, ids, timeout_s=timeout_s, on_progress=on_progress)
            return compare_tables(declaration, source, warehouse, offsets, began=began, on_progress=on_progress)


def compare_tables(
    declaration: Declaration,
    source: SourceReader,
    warehouse: CurrentRowsReader,
    offsets: barrier.Offsets,
    *,
    began: float,
    on_progress: OnProgress = lambda _text: None,
) -> Report:
    """Compares the landing tables up to these offsets with the source; without offsets, all landed records."""
    tables = {}
    for table in [source.table(declared, declaration.file) for declared in declaration.tables]:
        on_progress(f"comparing {table.name}")
        tables[table.name] = compare(
            source.rows(table),
            warehouse.rows(table, source.snapshot, _of_topic(cdc_topic(table.declared).name, offsets)),
            table.columns,
            lambda rows, name=table.name: on_progress(f"comparing {name}: {rows:,} rows"),  # type: ignore[misc]
        )
    snapshot = source.snapshot
    named = {f"{p.topic}/{p.partition}": offset for p, offset in sorted(offsets.items())}
    return Report(
        reconciled=all(table.equal for table in tables.values()),
        tables=tables,
        position=SnapshotPosition(snapshot.text, snapshot.taken_at, snapshot.lsn, named),
        seconds=round(time.monotonic() - began, 3),
    )


def _of_topic(topic: str, offsets: Mapping[TopicPartition, int]) -> dict[int, int] | None:
    return {p.partition: offset for p, offset in offsets.items() if p.topic == topic} if offsets else None
