"""Tests that any history of a table gives the expected versions, whatever the lag between its partitions.

A state machine makes the history (tests/support/bank/table_history.py) and delivers it to three partitions in any interleaving.
`make histories` runs 10,000 of them, 1,000 of each saved seed; BANKSTREAM_HISTORIES sets the number per seed.
"""

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.config.settings import KafkaSettings, WorkerSettings
from app.config.topics import Catalogue
from app.domain.times import parse_us
from app.engine.memory import EmittedRecord, MemoryPartition
from app.topology.handlers import build_topology
from tables.rows import declared_rows
from tests.support.bank.cdc import Record
from tests.support.bank.table_history import CARDS, PARTITIONS, TOPIC, Key, TableHistory, Version
from tests.support.catalogue import CATALOGUE

SEEDS: Final = tuple(range(1, 11))
HISTORIES: Final = int(os.environ.get("BANKSTREAM_HISTORIES", "80"))
"""Number of histories for each seed."""
STEPS: Final = 40

keys = st.tuples(st.sampled_from(["Zürich", 'a"b']), st.integers(-1, 3))
values = st.sampled_from([1, 2, None, "", "1"])
numbers = st.integers(0, PARTITIONS - 1)


@dataclass
class Product:
    """The group of the declared tables on partitions in memory, which are read independently."""

    past: TableHistory
    partitions: list[MemoryPartition] = field(default_factory=list)
    read: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    control: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    obeyed: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    ends: list[dict[Any, int]] = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])
    records: dict[Key, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        kafka = KafkaSettings().model_copy(update={"partitions": PARTITIONS})
        *_, (group, self.handlers) = build_topology(Catalogue((*CATALOGUE.tables, CARDS)), WorkerSettings(), kafka)
        assert group.topics == (TOPIC, "bank.control")
        self.partitions = [MemoryPartition(group, number) for number in range(PARTITIONS)]

    def deliver(self, partition: int, count: int) -> None:
        """Processes the next changes of a partition in one unit of work."""
        batch = self.past.log[partition][self.read[partition] : self.read[partition] + count]
        self.read[partition] += len(batch)
        self._take(self.partitions[partition].process(batch, self.handlers))

    def order(self, partition: int) -> None:
        """Processes the next table command of a partition."""
        batch = self.control[partition][self.obeyed[partition] : self.obeyed[partition] + 1]
        self.obeyed[partition] += len(batch)
        self._take(self.partitions[partition].process(batch, self.handlers))

    def pass_barriers(self, partition: int) -> None:
        """Runs waiting actions as the engine does: when a partition has read everything that existed when the action was first seen."""
        ends = self.ends[partition]
        end, read = len(self.past.log[partition]), self.read[partition]
        self._take(
            self.partitions[partition].pass_barriers(
                now_us=0, reached=lambda barrier: ends.setdefault(barrier, end) <= read
            )
        )

    def hear(self) -> None:
        """Reads all changes and table commands, and passes no barrier."""
        for partition in range(PARTITIONS):
            self.deliver(partition, 1 << 30)
        for partition in range(PARTITIONS):
            while self.obeyed[partition] < len(self.control[partition]):
                self.order(partition)

    def drain(self) -> None:
        """Reads everything and runs all waiting actions."""
        self.hear()
        for partition in range(PARTITIONS):
            self.pass_barriers(partition)

    def states(self) -> dict[Key, Any]:
        """The current rows."""
        found: dict[Key, Any] = {}
        for partition in self.partitions:
            table = declared_rows(CARDS)
            for raw_key, raw in partition.store.scan(table.name):
                state = table.decode(raw)
                if state.alive:
                    branch, number = json.loads(raw_key)
                    found[branch, number] = {name: json.loads(bytes(value)) for name, value in state.attributes.items()}
        return found

    def _take(self, outputs: list[EmittedRecord]) -> None:
        for output in outputs:
            assert output.value is not None
            if output.topic == "bank.control":
                log = self.control[output.partition]
                log.append(Record(output.topic, output.value, None, output.partition, len(log)))
            else:
                assert output.topic == "bank.scd2.cards", output.value
                record = json.loads(output.value)
                assert output.key is not None
                assert json.loads(output.key) == record["key"]
                records = self.records[record["key"]["branch"], record["key"]["number"]]
                records.append(record)
                check_stream(records[-2:])


class History(RuleBasedStateMachine):
    """The events of a table, and the ways to deliver them."""

    def __init__(self) -> None:
        super().__init__()
        self.past = TableHistory()
        self.product = Product(self.past)

    def _a_row(self, key: Key) -> Key | None:
        """The key if its row exists, else a key whose row exists."""
        return key if key in self.past.rows else next(iter(self.past.rows), None)

    @rule(key=keys, a=values)
    def insert(self, key: Key, a: Any) -> None:
        if key not in self.past.rows:
            self.past.insert(key, a=a)

    @rule(key=keys, a=values, toast=st.booleans(), whole=st.booleans())
    def update(self, key: Key, a: Any, toast: bool, whole: bool) -> None:
        if (live := self._a_row(key)) is not None:
            self.past.update(live, toast=toast, whole=whole, a=a)

    @rule(key=keys, hits=st.integers(0, 3))
    def count_hits(self, key: Key, hits: int) -> None:
        """Changes an untracked column."""
        if (live := self._a_row(key)) is not None:
            self.past.update(live, hits=hits)

    @rule(key=keys, big=st.sampled_from(["y" * 40, "__debezium_unavailable"]))
    def change_large_value(self, key: Key, big: str) -> None:
        if (live := self._a_row(key)) is not None:
            self.past.update(live, big=big)

    @rule(key=keys, before=st.sampled_from(["row", "key", "nothing"]))
    def delete(self, key: Key, before: Any) -> None:
        if (live := self._a_row(key)) is not None:
            self.past.delete(live, before=before)

    @rule(key=keys, new=keys)
    def move(self, key: Key, new: Key) -> None:
        live = self._a_row(key)
        if live is not None and new not in self.past.rows:
            self.past.move(live, new)

    @rule(reload=st.lists(keys, max_size=3, unique=True), a=values)
    def truncate(self, reload: list[Key], a: Any) -> None:
        """Truncates the table, and perhaps fills it again in the same transaction."""
        self.past.truncate()
        for key in reload:
            self.past.insert(key, a=a)

    @rule(copied=st.lists(keys, min_size=2, max_size=5, unique=True), a=values)
    def copy(self, copied: list[Key], a: Any) -> None:
        """COPY: inserts many rows at one position."""
        lsn = self.past._next()
        for key in copied:
            if key not in self.past.rows:
                self.past.insert(key, lsn=lsn, a=a)

    @rule(by_us=st.sampled_from([1, 1_000, 5_000_000, -3, -2_000]))
    def pass_time(self, by_us: int) -> None:
        self.past.pass_time(by_us)

    @rule(name=st.sampled_from(["extra", "more"]), default=values)
    def add_column(self, name: str, default: Any) -> None:
        if name not in self.past.columns:
            self.past.add_column(name, default)

    @rule(
        away=st.lists(st.tuples(st.sampled_from("iudm"), keys, keys, values), max_size=6),
        late=st.lists(keys, max_size=2, unique=True),
        a=values,
    )
    def snapshot_after_a_lost_slot(self, away: list[tuple[str, Key, Key, Any]], late: list[Key], a: Any) -> None:
        """Makes changes that are not logged, then a snapshot. Transactions that were open at the snapshot are logged after it."""
        self.product.hear()
        self.past.lose_slot()
        for what, key, other, value in away:
            self._while_away(what, key, other, value)
        if not self.past.rows:  # an empty table has no row that marks the end of the snapshot
            self.past.insert(("Zürich", 9))

        def under_way() -> None:
            for lsn, key in zip(self.past.reserved, late, strict=False):
                if key in self.past.rows:
                    self.past.update(key, lsn=lsn, a=a)
                else:
                    self.past.insert(key, lsn=lsn, a=a)

        self.past.snapshot(under_way)

    def _while_away(self, what: str, key: Key, other: Key, a: Any) -> None:
        live = key in self.past.rows
        if what == "i" and not live:
            self.past.insert(key, a=a)
        elif what == "u" and live:
            self.past.update(key, a=a)
        elif what == "d" and live:
            self.past.delete(key)
        elif what == "m" and live and other not in self.past.rows:
            self.past.move(key, other)

    @rule(partition=numbers, back=st.integers(1, 30))
    def repeat(self, partition: int, back: int) -> None:
        self.past.repeat(partition, max(0, len(self.past.log[partition]) - back))

    @rule(partition=numbers, count=st.integers(1, 8))
    def deliver(self, partition: int, count: int) -> None:
        self.product.deliver(partition, count)

    @rule(partition=numbers)
    def order(self, partition: int) -> None:
        self.product.order(partition)

    @rule(partition=numbers)
    def pass_barriers(self, partition: int) -> None:
        self.product.pass_barriers(partition)

    @rule(ahead=numbers, behind=numbers)
    def run_ahead(self, ahead: int, behind: int) -> None:
        """Reads one partition to its end, and gives another one all table commands before its own changes."""
        self.product.deliver(ahead, 1 << 30)
        while self.product.obeyed[behind] < len(self.product.control[behind]):
            self.product.order(behind)
        self.product.pass_barriers(behind)

    @precondition(lambda self: any(self.past.log))
    @rule()
    def agree(self) -> None:
        """Delivers everything, and checks that versions and rows are the expected ones."""
        self.product.drain()
        agree(self.past, self.product)

    def teardown(self) -> None:
        self.agree()


def check_stream(records: list[dict[str, Any]]) -> None:
    """Checks at any time that a key's records alternate between open and close, in order, and that each close names the open version."""
    assert len(records) > 1 or records[0]["op"] == "open"
    for earlier, later in pairwise(records):
        if later["op"] == "close":
            assert earlier["op"] == "open"
            assert (earlier["version_id"], earlier["valid_from"]) == (later["version_id"], later["valid_from"])
            assert later["valid_from"] <= later["valid_to"]
        else:
            assert earlier["op"] == "close"
            assert earlier["valid_to"] <= later["valid_from"]
            gap = earlier["reason"] in ("deleted", "key_changed", "truncated", "vanished")
            assert gap or earlier["valid_to"] == later["valid_from"]


def agree(past: TableHistory, product: Product) -> None:
    assert [letter for partition in product.partitions for letter in partition.dead_letters] == []
    assert product.states() == past.rows
    assert product.records.keys() <= past.facts.keys()
    ids = [r["version_id"] for records in product.records.values() for r in records if r["op"] == "open"]
    assert len(set(ids)) == len(ids)
    for key in past.facts:
        check(key, past, product.records.get(key, []))


def check(key: Key, past: TableHistory, records: list[dict[str, Any]]) -> None:
    opens = [record for record in records if record["op"] == "open"]
    closes = {record["version_id"]: record for record in records if record["op"] == "close"}
    ends = [closes.get(opened["version_id"]) for opened in opens]
    closed = [None if end is None else (end["reason"], parse_us(end["valid_to"])) for end in ends]
    found = [
        Version(
            tracked(opened["attributes"]), opened["reason"], parse_us(opened["valid_from"]), close,
            pair(opened["previous_key"]), None if end is None else pair(end["next_key"]),
        )
        for opened, end, close in zip(opens, ends, closed, strict=True)
    ]  # fmt: skip
    expected = [replace(one, attributes=tracked(one.attributes)) for one in past.versions(key, closed)]
    assert found == expected, f"{key}:\n  found    {found}\n  expected {expected}\n  facts    {past.facts[key]}"


def tracked(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != "hits"}


def pair(key: dict[str, Any] | None) -> Key | None:
    return None if key is None else (key["branch"], key["number"])


@pytest.mark.parametrize("number", SEEDS if "BANKSTREAM_HISTORIES" in os.environ else SEEDS[:2])
@pytest.mark.timeout(3_600)
def test_any_history_gives_the_expected_versions(number: int) -> None:
    machine = seed(number)(History)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
