"""Connects the engine to a Faust worker. Faust keeps lifecycle, group membership, assignor, agents, flow control and CLI.

The overrides, and the loss or duplication that each prevents (seen with faust-streaming 0.15.3):

- `ConsumerThread._create_worker_consumer`: read committed, and Faust's co-partitioning assignor. The stock consumer reads uncommitted
  records unless Faust's own transactions are on, and assigns round robin when the app has no Faust table. The consumer is a static
  member of its group: a worker that restarts gets its partitions back at once, and the other workers continue.
- `ConsumerThread.on_thread_stop`: a static member that is told to stop leaves its group, so that others take its partitions at once.
- `ConsumerThread._fetch_records`: checks aiokafka for background errors, because a dead fetcher otherwise stalls silently. An offset that
  Kafka no longer has is an error; the stock reset policy skips to the first existing one.
- `Consumer.commit`: the position is in the state; group offsets are written for lag monitoring only.
- `Consumer.perform_seek`: seeks to the positions of the open partitions.
- `Consumer._drain_messages`: one Faust event per topic partition and fetch. A fetch begun before its partition was sought is stale:
  its records are dropped and fetched again, so they are never processed at the wrong position.
- `TableManager.on_rebalance`: opens the assigned partitions while consumption is paused.
- `Recovery._resume_streams`: seek, then resume flow, then partitions: the stock order clears queues it has just filled.
- `WithoutWeb`: `faust worker` starts Faust's web server even if the app's settings turn it off; this boot strategy never does.
- `App.on_stop`: closes the partitions before the consumer leaves the group.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import aiokafka
import faust
from aiokafka import TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.app import App as FaustApp
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager as FaustTableManager
from faust.tables.recovery import Recovery as FaustRecovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from app.engine import metrics
from app.engine.engine import Batch, Cursor, Engine
from app.engine.exits import die
from app.engine.forced_exit import Worker
from app.engine.instance import Instance
from app.engine.kafka import connection

logger = logging.getLogger(__name__)

FETCH_WAIT_MS = 100


class BatchMessage(ConsumerMessage):
    """A Faust message that carries a whole batch."""

    __slots__ = ("batch",)
    batch: Batch


class BatchSchema(faust.Schema[Any, Any]):
    """Passes the batch through unchanged: Faust decodes nothing."""

    def compile(self, app: Any, **_: Any) -> Any:
        """Returns the decoder of a topic."""

        async def decode(message: BatchMessage, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust's signature
            return app.create_event(None, message.batch, None, message)

        return decode


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka's consumer runs."""

    app: Any  # the App below; Faust's interface lacks its attributes

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        del transport  # the broker's address comes from KafkaSettings
        engine: Engine = self.app.engine
        settings = engine.settings
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            **connection(engine.kafka),
            client_id=self.app.conf.broker_client_id,
            group_id=self.app.conf.id,
            group_instance_id=self.app.instance.group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=settings.max_batch_records,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            fetch_min_bytes=self.app.fetch_min_bytes,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=max(60_000, settings.session_timeout_ms),
            max_poll_interval_ms=24 * 3_600_000,  # a worker under backpressure is slow, not dead
            request_timeout_ms=max(40_000, 2 * settings.session_timeout_ms),
        )

    async def on_thread_stop(self) -> None:
        """Leave the group. Without this, aiokafka lets a static member stay until its session times out, as it may return."""
        if (consumer := self._consumer) is not None:
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - aiokafka leaves the group only without an instance id
        await super().on_thread_stop()

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        consumer._coordinator.check_errors()  # noqa: SLF001 - as in AIOKafkaConsumer.getmany
        if consumer._fetcher._fetch_task.done():  # noqa: SLF001 - aiokafka does not report it otherwise
            consumer._fetcher._fetch_task.result()  # noqa: SLF001
        try:
            return await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        except NoOffsetForPartitionError:
            return {}  # occurs between assignment and seek


class Consumer(driver.Consumer):
    """Delivers batches to the agents, beginning at the positions of the open partitions."""

    app: Any  # the App below; Faust's interface lacks its attributes

    @property
    def engine(self) -> Engine:
        """The engine of the app."""
        engine: Engine = self.app.engine
        return engine

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Write group offsets, so that lag can be monitored with Kafka's own tools. Nothing depends on them."""
        durable = self.engine.durable_positions()
        offsets = {tp: OffsetAndMetadata(offset, "") for tp, offset in durable.items()}
        consumer = self._thread._consumer  # noqa: SLF001
        for tp, offset in durable.items():
            if consumer is not None and tp in consumer.assignment() and (end := consumer.highwater(tp)) is not None:
                metrics.LAG_RECORDS.labels(tp.topic, tp.partition).set(max(0, end - offset))
        if offsets and consumer is not None and not self.app.rebalancing:
            try:
                await self._thread.call_thread(consumer.commit, offsets)
            except KafkaError as error:
                logger.info("group offsets were not written this time: %r", error)
        return True

    async def perform_seek(self) -> None:
        """Seek every assigned partition to the position in the state. Does nothing more if the worker is stopping."""
        try:
            targets = await self.engine.seek_offsets({TopicPartition(*tp) for tp in self.assignment()})
        except Exception as error:  # noqa: BLE001 - it would crash Faust's recovery and hide the exit code
            if not self.engine.closing:
                die(error, "seek")
            logger.info("stopped while seeking: %r", error)
            return
        for tp, offset in targets.items():
            await self.seek(TP(tp.topic, tp.partition), offset)

    async def _drain_messages(self, fetcher: Any) -> None:
        engine = self.engine
        linger = engine.settings.linger_ms / 1000
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait())
                    continue
                cursors = dict(engine.cursors)
                active = {
                    TP(*tp) for tp in engine.fetchable(TopicPartition(*tp) for tp in self._get_active_partitions())
                }
                if not active:  # an empty set would mean every partition
                    await asyncio.sleep(max(linger, 0.005))
                    continue
                try:
                    fetched = await self._getmany(active_partitions=active, timeout=FETCH_WAIT_MS / 2000)
                except KeyError as error:
                    logger.info("a rebalance interrupted a fetch, which is repeated: %r", error)
                    await self._read_again(active)
                    continue
                for tp, records in (fetched or {}).items():
                    await self._deliver(TopicPartition(tp.topic, tp.partition), cursors, records)
                await asyncio.sleep(linger)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        except OffsetOutOfRangeError as error:
            die(await engine.expired(error.args[0]), "fetch")
        except Exception as error:  # noqa: BLE001 - a dead fetch loop would look like an idle one
            die(error, "fetch")

    async def _deliver(self, tp: TopicPartition, cursors: Mapping[TopicPartition, Cursor], records: list[Any]) -> None:
        cursor = self.engine.cursors.get(tp)
        if cursor is None or not records:
            return  # drained and not yet sought again
        if cursor is not cursors.get(tp):
            # The partition was sought after the fetch began. A fetch waits through a rebalance, so these may be the first records at the
            # new position, and aiokafka's position is already after them. Seek back to the cursor.
            await self._back_to(cursor, TP(tp.topic, tp.partition))
            return
        batch = self.engine.fetched(tp, cursor, records)
        last = records[-1]
        message = BatchMessage(
            tp.topic, tp.partition, last.offset, last.timestamp / 1000, last.timestamp_type, None, None, None, None, 0, 0,
            TP(tp.topic, tp.partition), generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        message.batch = batch
        await self.callback(message)

    async def _read_again(self, partitions: Iterable[TP]) -> None:
        """Seek back to the cursors. aiokafka 0.14 may raise KeyError if a partition is revoked while it returns records. It then drops the
        records that it had taken from other partitions, although their positions have already advanced.
        """
        for tp in partitions:
            cursor = self.engine.cursors.get(TopicPartition(tp.topic, tp.partition))
            if cursor is not None:
                await self._back_to(cursor, tp)

    async def _back_to(self, cursor: Cursor, tp: TP) -> None:
        with suppress(IllegalStateError):  # already revoked
            await self.seek(tp, cursor.next)

    async def verify_all_partitions_active(self) -> None:
        """Does nothing: Faust's livelock detector relies on acknowledgements, which are not used here."""


class Transport(driver.Transport):
    """Faust's aiokafka transport with the `Consumer` above."""

    Consumer = Consumer


class Recovery(FaustRecovery):
    """Resumes consumption after a rebalance, in an order that clears no filled queue. There are no Faust tables to recover."""

    app: Any  # the App below; Faust's interface lacks its attributes

    async def _resume_streams(self, generation_id: int = 0) -> None:
        app, consumer = self.app, self.app.consumer
        await app.on_rebalance_complete.send()
        if app.consumer_generation_id != generation_id:
            return
        assignment = set(consumer.assignment())
        await consumer.perform_seek()
        if app.engine.closing:
            return
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_partitions(assignment)
        consumer.resume_flow()
        await app._fetcher.maybe_start()  # noqa: SLF001
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        app.ready(yes=True)
        logger.info("ready with %d partitions", len(assignment))


class TableManager(FaustTableManager):
    """Opens the engine's partitions where Faust would recover its tables."""

    app: Any  # the App below; Faust's interface lacks its attributes

    @property
    def recovery(self) -> FaustRecovery:
        """The engine's `Recovery`."""
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Open assigned partitions and close all others."""
        try:
            await self.app.engine.assign({TopicPartition(*tp) for tp in assigned})
        except Exception as error:  # noqa: BLE001 - Faust would only log it
            if not self.app.engine.closing:
                die(error, "opening partitions")
            logger.info("stopped while opening partitions: %r", error)
            return
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)


class WithoutWeb(BootStrategy):
    """Never starts Faust's own web server, whatever the command line says. That server exposes tables to anyone, on all interfaces."""

    def web_server(self) -> Iterable[Any]:
        """Returns no services."""
        return ()


class App(FaustApp):
    """A Faust app whose partitions the engine processes."""

    BootStrategy = WithoutWeb
    fetch_min_bytes: ClassVar[int] = 1
    """A broker answers a fetch when it has this many bytes, or after FETCH_WAIT_MS."""

    def __init__(self, app_id: str, engine: Engine, instance: Instance, *, url: str | None = None) -> None:
        """`url`: where this worker serves lookups of its state. Group membership carries it to all other members, so they learn a new one
        only when the worker leaves and joins again. None: Faust's default, where nothing listens.
        """
        self.engine, self.instance = engine, instance
        self.is_ready = False
        """True if all assigned partitions are open and being read; False during a rebalance."""
        self._beside: list[Any] = []
        super().__init__(
            app_id,
            broker="aiokafka://" + engine.kafka.bootstrap_servers.replace(",", ";"),
            store="memory://",
            datadir=engine.settings.state_dir / "faust",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            TableManager=TableManager,
            Worker=Worker,
            table_standby_replicas=0,  # with any, the assignor fills the first workers and leaves the last ones idle
            broker_session_timeout=engine.settings.session_timeout_ms / 1000,
            broker_heartbeat_interval=engine.settings.heartbeat_interval_ms / 1000,
            broker_request_timeout=max(40.0, 2 * engine.settings.session_timeout_ms / 1000),
            broker_commit_interval=engine.settings.offset_commit_interval_ms / 1000,
            broker_credentials=_credentials(engine),
            stream_wait_empty=False,
            stream_buffer_maxsize=4096,  # never reached: the engine has at most a few batches of a partition in memory
            canonical_url=url,
        )
        self.on_partitions_revoked.connect(self._drain)
        self.task(self._punctuate)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Check the input topics, and exit if they are missing or have wrong partition counts."""
        self.engine.settings.state_dir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()
        try:
            await self.engine.log.start()
            await self.engine.check()
        except Exception as error:  # noqa: BLE001 - Faust would end the process with an unspecific exit code
            die(error, "start")
        for service in self._beside:
            await self.add_runtime_dependency(service)

    async def on_stop(self) -> None:
        """Close the partitions, then leave the group."""
        self.ready(yes=False)
        self.consumer.stop_flow()
        await self.engine.close()
        await super().on_stop()

    def ready(self, *, yes: bool) -> None:
        """Set whether all assigned partitions are open and being read."""
        self.is_ready = yes
        metrics.READY.set(int(yes))

    def add_service(self, service: Any) -> None:
        """Run a service of mode's in this process, from before the first partition opens until the worker stops."""
        self._beside.append(service)

    def addresses(self) -> dict[TopicPartition, str]:
        """Returns, by input partition, the address of the worker it is assigned to, as of the last rebalance that this worker knows."""
        assignor: Any = self.assignor  # Faust's assignor interface lacks external_topics_metadata
        return {
            TopicPartition(topic, number): url
            for url, topics in assignor.external_topics_metadata().items()
            for topic, numbers in topics.items()
            for number in numbers
        }

    def batches(self, topic: str) -> Any:
        """Returns the topic as this app's agents consume it: one Faust event per batch."""
        return self.topic(topic, schema=BatchSchema(), internal=False, acks=False)

    def dispatch(self, topic: str, subtopology: str) -> Any:
        """Returns the Faust agent that submits a topic's batches to the engine's subtopology of that name."""

        async def agent(stream: Any) -> None:
            async for batch in stream:
                self.engine.submit(batch, subtopology)

        return self.agent(self.batches(topic), name=f"{subtopology}:{topic}")(agent)

    async def _drain(self, *_: Any, **__: Any) -> None:
        self.ready(yes=False)
        await self.engine.drain()

    async def _punctuate(self, *_: Any) -> None:
        while not self.should_stop:
            try:
                await self.engine.punctuate()
            except Exception as error:  # noqa: BLE001 - the worker must not continue without its time-driven work
                die(error, "punctuation")
            await self.sleep(self.engine.settings.punctuate_interval_ms / 4000)


def _credentials(engine: Engine) -> Any:
    arguments = connection(engine.kafka)
    if "sasl_mechanism" in arguments:
        return faust.SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=arguments["sasl_plain_password"],
            mechanism=arguments["sasl_mechanism"],
            ssl_context=arguments.get("ssl_context"),
        )
    return faust.SSLCredentials(context=arguments["ssl_context"]) if "ssl_context" in arguments else None
