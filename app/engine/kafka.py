"""Connects to Kafka: builds aiokafka's connection arguments, and reads topic metadata and offsets."""

import asyncio
import ssl
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from app.config.settings import KafkaSettings
from app.errors import ContinuityError

COORDINATOR_TIMEOUT_S = 30


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Returns the arguments that every aiokafka client of this application shares."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
        arguments["ssl_context"] = context
    if settings.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    return arguments


class _Uuid(AbstractType[bytes]):
    """Sixteen raw bytes; aiokafka 0.14 has no type for them."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponse(Response):
    """Metadata v12: the first version that returns topic ids for topics requested by name."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class([(bytes(16), name, {}) for name in self._topics], False, False, {})


class _RawAnswer(Response):
    """A Metadata response as raw bytes: searching it for a few ids costs a fraction of decoding all partitions of all topics."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema()

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read()


class _IdsRequestStruct(_MetadataRequestStruct):
    RESPONSE_TYPE = _RawAnswer

    def encode(self) -> bytes:
        """Encodes once and caches the bytes: the same request is sent many times a second."""
        if not hasattr(self, "encoded"):
            self.encoded: bytes = super().encode()
        return self.encoded


class _IdsRequest(Request[_IdsRequestStruct]):
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._struct = _IdsRequestStruct([(bytes(16), name, {}) for name in topics], False, False, {})

    def build(self, request_struct_class: type[_IdsRequestStruct]) -> _IdsRequestStruct:  # noqa: ARG002 - there is one version
        return self._struct


_ids_request = lru_cache(maxsize=16)(_IdsRequest)


def _id_in(answer: bytes, name: str) -> uuid.UUID | None:
    """Returns a topic's id from a raw Metadata response, or None if the topic is missing or has an error code.

    The bytes are: error code (0), length of the name, name, id.
    """
    wanted = b"\0\0" + CompactString("utf-8").encode(name)
    found = answer.find(wanted)
    begin = found + len(wanted)
    return None if found < 0 else uuid.UUID(bytes=answer[begin : begin + 16])


async def _retried(ask: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
    """Returns the response; repeats the call after retriable errors. The caller sets the time limit."""
    while True:
        try:
            return await ask(*arguments, **named)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(0.1)


class TopicInfo:
    """A topic as the broker knows it. The id changes when a topic of the same name is created again."""

    __slots__ = ("id", "name", "partitions")

    def __init__(self, name: str, topic_id: uuid.UUID, partitions: int) -> None:
        self.name, self.id, self.partitions = name, topic_id, partitions


class KafkaLog:
    """Reads topic metadata and offsets without joining a group. Use as an async context manager.

    Offsets are those of the log (read uncommitted): `end` is the high watermark, the offset that the next record will get.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect. Starting twice is allowed."""
        async with self._starting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(**connection(self._settings))
                await consumer.start()
                self._consumer = consumer

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def end(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the high watermarks."""
        offsets: Mapping[TopicPartition, int] = await self._started.end_offsets(list(partitions))
        return offsets

    async def beginning(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offsets that the broker still has."""
        offsets: Mapping[TopicPartition, int] = await self._started.beginning_offsets(list(partitions))
        return offsets

    async def topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Returns the topics with these names that exist."""
        response = await self._ask(_MetadataRequest(names))
        return {
            name: TopicInfo(name, uuid.UUID(bytes=topic_id), len(partitions))
            for error, name, topic_id, _, partitions, _, _ in response.topics
            if error == 0
        }

    async def ids(self, names: Iterable[str]) -> dict[str, uuid.UUID]:
        """Returns the ids of those topics that exist, at a fifth of the cost of `topics`."""
        wanted = tuple(names)
        if not wanted:
            return {}
        answer: bytes = await self._ask(_ids_request(wanted))
        return {name: topic_id for name in wanted if (topic_id := _id_in(answer, name)) is not None}

    async def partition_counts(self, names: Iterable[str]) -> dict[str, int]:
        """Returns the partition counts of those topics that exist."""
        wanted = list(names)
        return {name: info.partitions for name, info in (await self.topics(wanted)).items()} if wanted else {}

    async def committed(self, group_id: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the offsets that a consumer group has committed, without partitions that have none.

        Waits up to COORDINATOR_TIMEOUT_S while the group's coordinator moves.
        """
        admin = AIOKafkaAdminClient(**connection(self._settings))
        await admin.start()
        try:
            async with asyncio.timeout(COORDINATOR_TIMEOUT_S):
                found = await _retried(admin.list_consumer_group_offsets, group_id, partitions=list(partitions))
        finally:
            await admin.close()
        return {tp: value.offset for tp, value in found.items() if value.offset >= 0}

    async def _ask(self, request: Request[Any]) -> Any:
        """Send a Metadata request to any broker."""
        client = self._started._client  # noqa: SLF001 - aiokafka has no public way to send a custom request
        node = client.get_random_node()
        for _ in range(3):  # a node may be gone; any other returns the same
            if await client.ready(node):
                break
            node = client.get_random_node()
        return await client.send(node, request)

    async def require(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Like `topics`, but raises ContinuityError if one is missing."""
        wanted = list(names)
        found = await self.topics(wanted)
        if missing := sorted(set(wanted) - found.keys()):
            raise ContinuityError(
                f"Kafka at {self._settings.bootstrap_servers} has no topic {', '.join(missing)}. Run `bankstream provision topics`."
            )
        return found

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("KafkaLog is used before start()")
        return self._consumer
