"""Tests that clients of a real broker stay on the proxy, and that a commit whose response is lost is a commit."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings
from app.engine.kafka import KafkaLog
from app.engine.topic_admin import TopicSpec, ensure_topics
from tests.faults.instruments.kafka_proxy import Frames, KafkaProxy

pytestmark = pytest.mark.integration


@pytest.fixture
async def wire(kafka: KafkaSettings) -> AsyncIterator[KafkaProxy]:
    async with KafkaProxy(int(kafka.bootstrap_servers.rpartition(":")[2])) as made:
        yield made


def through(wire: KafkaProxy) -> str:
    return f"127.0.0.1:{wire.port}"


async def committed(kafka: KafkaSettings, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[bytes] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            found += [r.value for rs in (await consumer.getmany(timeout_ms=100)).values() for r in rs]
        return found
    finally:
        await consumer.stop()


async def topic_on(kafka: KafkaSettings) -> str:
    name = f"wire-{uuid4().hex}"
    await ensure_topics([TopicSpec(name, 1, {})], kafka)
    return name


async def test_every_request_of_a_transaction_goes_through_the_proxy(wire: KafkaProxy, kafka: KafkaSettings) -> None:
    topic = await topic_on(kafka)
    async with (
        AIOKafkaProducer(bootstrap_servers=through(wire), transactional_id=topic) as producer,
        producer.transaction(),
    ):
        await producer.send(topic, b"1")
    seen = {"Metadata", "FindCoordinator", "InitProducerId", "AddPartitionsToTxn", "Produce", "EndTxn"}
    assert seen <= wire.seen.keys()
    async with KafkaLog(kafka.model_copy(update={"bootstrap_servers": through(wire)})) as log:
        assert topic in await log.topics([topic])
    assert await committed(kafka, topic) == [b"1"]
    assert not wire.fired


async def test_a_commit_whose_response_is_lost_is_committed_once(wire: KafkaProxy, kafka: KafkaSettings) -> None:
    topic = await topic_on(kafka)
    async with AIOKafkaProducer(bootstrap_servers=through(wire), transactional_id=topic) as producer:
        await wire.lose_answer("EndTxn")
        try:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"1")
        except KafkaError:  # the client may give up; the broker decides whether it is committed
            pass
    assert wire.fired == {"EndTxn answer lost": 1}
    assert await committed(kafka, topic) == [b"1"]


async def test_a_request_is_repeated_if_its_response_is_cut(wire: KafkaProxy, kafka: KafkaSettings) -> None:
    topic = await topic_on(kafka)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"%d" % number)
    await wire.cut_answer("Fetch", 3, 50)
    found = await committed(kafka.model_copy(update={"bootstrap_servers": through(wire)}), topic)
    assert found == [b"%d" % number for number in range(10)]
    assert wire.fired == {"Fetch answer cut": 2}


def test_frames_are_whole_whatever_pieces_they_arrive_in() -> None:
    whole = b"".join(len(body).to_bytes(4, "big") + body for body in (b"", b"a", b"bc" * 100))
    frames = Frames()
    found = [frame for begin in range(0, len(whole), 3) for frame in frames.feed(whole[begin : begin + 3])]
    assert b"".join(found) == whole
    assert len(found) == 3
