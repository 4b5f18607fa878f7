"""Tests reading changelogs by whole fetches: the requests to each broker, and the handling of responses."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from app.config.settings import KafkaSettings
from app.engine import changelog as changelogs

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)
SOUND, OUT_OF_RANGE, NOT_LEADER, NOT_AUTHORIZED = 0, 1, 6, 29
NO_PRODUCER: Final = -1


def batch(first: int, *values: bytes, producer_id: int = NO_PRODUCER) -> bytes:
    """Records of consecutive offsets as a broker stores them: in a transaction if they have a producer."""
    builder = DefaultRecordBatchBuilder(2, 0, producer_id != NO_PRODUCER, producer_id, -1, 0, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 0, b"k%d" % number, value, [])
    raw = builder.build()
    return first.to_bytes(8, "big") + bytes(raw[8:])


Answer = tuple[str, Sequence[tuple[Any, ...]]]


class Client:
    """Brokers by the partition that they lead. `answers` has each broker's response, or an exception."""

    def __init__(self, leaders: dict[TopicPartition, int | None], answers: dict[int, Any], version: int = 11) -> None:
        self.cluster = SimpleNamespace(leader_for_partition=leaders.get)
        self.answers, self.version = answers, version
        self.asked: dict[int, Any] = {}
        self.topics: set[str] = set()
        self.updates = 0

    async def set_topics(self, topics: set[str]) -> None:
        self.topics = topics

    async def force_metadata_update(self) -> None:
        self.updates += 1

    async def send(self, node: int, request: Any) -> Any:
        self.asked[node] = request
        answer = self.answers[node]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(topics=answer, API_VERSION=self.version)


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelogs, "RETRY_S", 0)
    monkeypatch.setattr(changelogs, "FetchRequest", lambda *fields: fields)


def reader(client: Client) -> changelogs.ChangelogReader:
    made = changelogs.ChangelogReader.__new__(changelogs.ChangelogReader)
    made._client = client
    return made


REPLICA: Final = -1


Aborted = Sequence[tuple[int, int]]
"""Of each aborted transaction, its producer and its first offset."""


def part(number: int, code: int, raw: bytes = b"", aborted: Aborted = ()) -> tuple[Any, ...]:
    """One partition of a version 11 response: high watermark, last stable offset and log start precede the aborted transactions."""
    return (number, code, 99, 99, 0, list(aborted), REPLICA, raw)


async def test_each_broker_gets_one_request_for_all_partitions_that_it_leads() -> None:
    client = Client(
        {A0: 1, A1: 2, B0: 1},
        {
            1: [("a", [part(0, SOUND, batch(5, b"x", b"y"))]), ("b", [part(0, SOUND)])],
            2: [("a", [part(1, SOUND, batch(0, b"z"))])],
        },
    )
    fetched = await reader(client).fetch({A0: 5, A1: 0, B0: 7})
    assert {it.tp: [(record.key, record.value) for record in it] for it in fetched} == {
        A0: [(b"k0", b"x"), (b"k1", b"y")],
        A1: [(b"k0", b"z")],
        B0: [],
    }
    assert {it.tp: it.next for it in fetched} == {A0: 7, A1: 1, B0: 7}
    limits = (changelogs.WAIT_MS, 1, changelogs.FETCH_BYTES, READ_COMMITTED)
    assert client.asked == {
        1: (*limits, [("a", [(0, 5, changelogs.PARTITION_BYTES)]), ("b", [(0, 7, changelogs.PARTITION_BYTES)])]),
        2: (*limits, [("a", [(1, 0, changelogs.PARTITION_BYTES)])]),
    }
    assert (client.topics, client.updates) == ({"a", "b"}, 0)


async def test_an_older_answer_names_no_replica_to_prefer() -> None:
    answer: list[Answer] = [("a", [(0, SOUND, 99, 99, 0, [], batch(5, b"x"))])]
    (fetched,) = await reader(Client({A0: 1}, {1: answer}, version=10)).fetch({A0: 5})
    assert [record.value for record in fetched] == [b"x"]


@pytest.mark.parametrize("version", [10, 11])
async def test_a_transaction_that_was_aborted_is_passed_over(version: int) -> None:
    records = batch(5, b"x", producer_id=7) + batch(6, b"y", producer_id=8)
    whole = part(0, SOUND, records, aborted=[(7, 5)])
    client = Client({A0: 1}, {1: [("a", [whole if version > 10 else (*whole[:-2], records)])]}, version)
    (fetched,) = await reader(client).fetch({A0: 5})
    assert [record.value for record in fetched] == [b"y"]
    assert fetched.next == 7


async def test_records_that_were_damaged_on_their_way_are_an_error() -> None:
    sound = batch(5, b"x")
    damaged = sound.replace(b"x", b"y")
    assert damaged != sound
    (fetched,) = await reader(Client({A0: 1}, {1: [("a", [part(0, SOUND, damaged)])]})).fetch({A0: 5})
    with pytest.raises(CorruptRecordException):
        list(fetched)


@pytest.mark.parametrize(
    ("leader", "answer", "why"),
    [
        (None, None, "nobody leads the partition, as far as is known"),
        (changelogs.NO_LEADER, None, "nobody leads it at the moment"),
        (2, KafkaConnectionError("down"), "its broker is away"),
        (2, [("a", [part(1, NOT_LEADER)])], "its broker has given it away"),
    ],
)
async def test_a_failed_partition_is_requested_again_with_new_metadata(
    leader: int | None, answer: Any, why: str
) -> None:
    client = Client({A0: 1, A1: leader}, {1: [("a", [part(0, SOUND, batch(5, b"x"))])], 2: answer})
    fetched = await reader(client).fetch({A0: 5, A1: 0})
    assert [it.tp for it in fetched] == [A0], why
    assert client.updates == 1, why


async def test_an_offset_that_kafka_no_longer_has_is_an_error_that_names_it() -> None:
    client = Client({A0: 1}, {1: [("a", [part(0, OUT_OF_RANGE)])]})
    with pytest.raises(OffsetOutOfRangeError) as refused:
        await reader(client).fetch({A0: 5})
    assert refused.value.args == ({A0: 5},)


async def test_an_error_about_one_partition_names_it() -> None:
    client = Client({A0: 1}, {1: [("a", [part(0, NOT_AUTHORIZED)])]})
    with pytest.raises(TopicAuthorizationFailedError, match="a/0"):
        await reader(client).fetch({A0: 5})


async def test_an_error_that_is_not_retriable_is_raised() -> None:
    client = Client({A0: 1}, {1: TopicAuthorizationFailedError("a")})
    with pytest.raises(TopicAuthorizationFailedError):
        await reader(client).fetch({A0: 5})
    assert client.updates == 0


def test_a_reader_is_in_no_group_and_connects_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(changelogs, "AIOKafkaClient", lambda **options: made.update(options))
    changelogs.ChangelogReader(KafkaSettings(bootstrap_servers="kafka:1"))
    assert made["bootstrap_servers"] == "kafka:1"
