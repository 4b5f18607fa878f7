"""Sends the records of a unit of work as record batches in one Kafka transaction."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import RecordMetadata

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.kafka import connection
from app.errors import BankstreamError, FencedError

Pair = tuple[bytes | None, bytes | None]
SentBatch = tuple[asyncio.Future[RecordMetadata], int]
"""The future of a record batch, whose result has its first offset, and the number of records in it."""

MAX_BATCH_BYTES = 900_000
"""Size limit of one record batch: under the broker's default limit for a message set (1,048,588), with room for headers."""


class TransactionFailedError(BankstreamError):
    """A transaction failed, or its outcome is not known. The changelog has the outcome, so the partition must be opened again."""


class TransactionalProducer:
    """The producer with the transactional id of one partition of a group.

    Starting it fences the previous owner of the id and completes or aborts its open transaction (Kafka's InitProducerId).
    """

    def __init__(self, transactional_id: str, kafka: KafkaSettings, engine: EngineSettings) -> None:
        self.transactional_id = transactional_id
        self._producer = AIOKafkaProducer(
            **connection(kafka),
            transactional_id=transactional_id,
            transaction_timeout_ms=engine.transaction_timeout_ms,
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=engine.max_record_bytes,
            retry_backoff_ms=5,  # the broker briefly answers NOT_ENOUGH_REPLICAS while it verifies a partition
        )

    async def start(self) -> None:
        """Connects and fences the previous owner of the id."""
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnects. An open transaction is aborted when the next owner starts, or by its timeout."""
        await self._producer.stop()

    async def commit(self, records: Mapping[tuple[str, int], Sequence[Pair]]) -> dict[tuple[str, int], int]:
        """Sends the records of every (topic, partition) in order and commits. Returns the offset after the last record
        written to each.

        Raises FencedError if another worker has taken over the id, and TransactionFailedError for any other error of Kafka.
        After either the outcome is not known here, and this object must not be used again.
        """
        try:
            await self._producer.begin_transaction()
            sent = {target: await self._send(target, pairs) for target, pairs in records.items() if pairs}
            written = {
                target: [(await future).offset + count for future, count in batches] for target, batches in sent.items()
            }
            await self._producer.commit_transaction()
        except Exception as error:
            reason = self._failure() or error
            if isinstance(reason, ProducerFenced):
                raise FencedError(
                    f"transactional id {self.transactional_id} was taken over by another worker"
                ) from reason
            if isinstance(reason, KafkaError):
                raise TransactionFailedError(
                    f"the transaction of {self.transactional_id} failed ({reason!r}); the partition is restored from its changelog"
                ) from reason
            raise
        return {target: ends[-1] for target, ends in written.items()}

    def _failure(self) -> BaseException | None:
        """Returns the error that ended the transaction in aiokafka's sender, or None.

        The sender runs as a task of its own. If it is fenced between two calls of this class, the next call fails with an error about a
        wrong state (IllegalOperation, AssertionError) that does not name the cause.
        """
        waiter: asyncio.Future[None] | None = self._producer._txn_manager._transaction_waiter  # noqa: SLF001
        return waiter.exception() if waiter is not None and waiter.done() and not waiter.cancelled() else None

    async def _send(self, target: tuple[str, int], pairs: Sequence[Pair]) -> list[SentBatch]:
        topic, partition = target
        sent: list[SentBatch] = []
        builder = self._producer.create_batch()
        for key, value in pairs:
            if (
                builder.append(key=key, value=value, timestamp=None) is None
            ):  # full; an empty batch takes a record of any size
                sent.append(await self._flush(builder, topic, partition))
                builder = self._producer.create_batch()
                builder.append(key=key, value=value, timestamp=None)
        if builder.record_count():
            sent.append(await self._flush(builder, topic, partition))
        return sent

    async def _flush(self, builder: Any, topic: str, partition: int) -> SentBatch:
        count: int = builder.record_count()
        builder.close()
        future: asyncio.Future[RecordMetadata] = await self._producer.send_batch(builder, topic, partition=partition)
        future.add_done_callback(_seen)
        return future, count


def _seen(future: asyncio.Future[RecordMetadata]) -> None:
    """Retrieves the exception of a batch, so that asyncio does not log each one. `commit` reports a failed transaction once."""
    if not future.cancelled():
        future.exception()
