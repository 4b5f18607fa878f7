"""Waits until every committed change has passed through the streams and the lake into the warehouse."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from app.config.settings import KafkaSettings, SnowflakeSettings, SourceSettings, read
from app.config.topics import TRANSACTIONS, read_catalogue
from app.engine.kafka import connection
from app.errors import BankstreamError
from app.proof.reconcile import barrier
from app.proof.reconcile.warehouse import CurrentRowsReader
from app.runtime.progress import OnProgress
from app.topology.partition_groups import STREAMS

POLL_S: Final = 0.25


class CatchUpError(BankstreamError):
    """A part of the pipeline has not caught up in time."""


async def wait_until_caught_up(environment: Mapping[str, str], *, timeout_s: float, on_progress: OnProgress) -> None:
    """Wait until everything that is committed now has arrived. Raises CatchUpError or ReconcileError with the place that is behind.

    SinkError when the warehouse cannot be asked.
    """
    kafka, source = read(KafkaSettings, environment), read(SourceSettings, environment)
    deadline = time.monotonic() + timeout_s
    catalogue = read_catalogue(environment)
    cdc, derived = [topic.name for topic in catalogue.cdc], [topic.name for topic in catalogue.derived]
    captured = await barrier.everything_committed(kafka, source, cdc, timeout_s=timeout_s, on_progress=on_progress)
    on_progress("waiting until the streams have processed it")
    await _processed(kafka, captured, deadline)
    await _processed(kafka, await _last(kafka, [TRANSACTIONS.name], deadline), deadline)
    made = await _last(kafka, derived, deadline)
    ids = await barrier.topic_ids(kafka, [*cdc, *derived])
    await asyncio.to_thread(
        _loaded,
        read(SnowflakeSettings, environment),
        {**captured, **made},
        ids,
        deadline - time.monotonic(),
        on_progress,
    )


def _loaded(
    settings: SnowflakeSettings,
    offsets: barrier.Offsets,
    ids: Mapping[str, str],
    timeout_s: float,
    on_progress: OnProgress,
) -> None:
    with contextlib.closing(CurrentRowsReader(settings)) as warehouse:
        barrier.wait_for_ledger(warehouse, offsets, ids, timeout_s=timeout_s, on_progress=on_progress)


async def _last(kafka: KafkaSettings, topics: Iterable[str], deadline: float) -> barrier.Offsets:
    return await barrier.last_records(kafka, await barrier.partitions_of(kafka, topics), deadline)


async def _processed(kafka: KafkaSettings, wanted: barrier.Offsets, deadline: float) -> None:
    """Wait until the streams' group offsets, which lag their state by at most a second, have passed all of `wanted`."""
    admin = AIOKafkaAdminClient(**connection(kafka))
    try:
        await admin.start()
        while True:
            at = await admin.list_consumer_group_offsets(STREAMS)
            behind = [partition for partition, last in wanted.items() if last >= 0 and _offset(at, partition) <= last]
            if not behind:
                return
            if time.monotonic() > deadline:
                where = ", ".join(
                    f"{p.topic}/{p.partition} is at {_offset(at, p)} of {wanted[p] + 1}" for p in sorted(behind)[:5]
                )
                raise CatchUpError(
                    f"the streams are behind: {where}. See their state (bankstream stack status) and logs."
                )
            await asyncio.sleep(POLL_S)
    finally:
        await admin.close()


def _offset(at: Mapping[TopicPartition, object], partition: TopicPartition) -> int:
    return int(getattr(at.get(partition), "offset", -1))
