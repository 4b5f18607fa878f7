"""Tests the assignment of partitions to workers."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientMetadata

from app.config.settings import EngineSettings, KafkaSettings
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim

TOPICS = ("bank.public.accounts", "bank.public.transactions")


class Cluster:
    """The part of aiokafka's ClusterMetadata that the assignor calls."""

    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def partitions_for_topic(self, _: str) -> set[int]:
        """The same partitions for every topic."""
        return self._partitions


@pytest.fixture
def assignor(tmp_path: Path) -> Any:
    engine = Engine(KafkaSettings(bootstrap_servers="127.0.0.1:1"), EngineSettings(state_dir=tmp_path))
    app = App("assigned", engine, claim(tmp_path / "assigned"))
    return app.assignor


def assigned(answer: dict[str, ConsumerProtocolMemberAssignment]) -> dict[str, list[int]]:
    """The partition numbers of each member. They must be equal for all topics, because state is stored by number."""
    found = {}
    for member, assignment in answer.items():
        by_topic = {topic: sorted(partitions) for topic, partitions in assignment.assignment}
        found[member] = by_topic.get(TOPICS[0], [])
        assert by_topic == dict.fromkeys(TOPICS, found[member])
    return found


@pytest.mark.parametrize(
    ("partitions", "workers", "sizes"),
    [(4, 1, [4]), (4, 2, [2, 2]), (4, 3, [1, 1, 2]), (8, 3, [2, 3, 3]), (2, 3, [0, 1, 1])],
)
def test_workers_get_equal_shares_and_none_is_idle_while_there_are_partitions(
    assignor: Any, partitions: int, workers: int, sizes: list[int]
) -> None:
    members = {f"streams-{number}": assignor.metadata(TOPICS) for number in range(workers)}
    found = assigned(assignor.assign(Cluster(partitions), members))
    assert sorted(map(len, found.values())) == sizes
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(partitions))


def test_a_joining_worker_takes_only_its_share_from_the_others(assignor: Any) -> None:
    members = {f"streams-{number}": assignor.metadata(TOPICS) for number in range(2)}
    first = assignor.assign(Cluster(4), members)
    before = assigned(first)

    def again(member: str) -> ConsumerProtocolMemberMetadata:
        """The metadata of a member with this assignment."""
        had = ClientMetadata.loads(assignor._decompress(first[member].user_data))
        return ConsumerProtocolMemberMetadata(0, list(TOPICS), had.dumps())

    joined = {**{member: again(member) for member in members}, "streams-2": assignor.metadata(TOPICS)}
    after = assigned(assignor.assign(Cluster(4), joined))
    assert sorted(map(len, after.values())) == [1, 1, 2]
    assert all(set(after[member]) & set(before[member]) for member in members)
