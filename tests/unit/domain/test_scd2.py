"""Tests SCD2: for any events of a row, its versions equal those computed from a plain list of the events."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.changes import Operation, Row, RowChange
from app.domain.records import Scd2Close, Scd2Open, Scd2Record, Source
from app.domain.scd2 import (
    RowState,
    Snapshot,
    Truncation,
    apply_change,
    apply_snapshot,
    apply_truncate,
    is_missing,
    is_older,
    is_replay,
    version_id,
)
from app.domain.times import format_us

UNTRACKED = frozenset({"balance"})
KEY = {"id": 1}


def row(**columns: Any) -> Row:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in ({"id": 1} | columns).items()}


def source(offset: int, lsn: int | None) -> Source:
    return Source("bank.public.t", 0, offset, lsn, 7, format_us(0))


def change(op: Operation, lsn: int | None, at: int, **columns: Any) -> RowChange:
    image = row(**columns)
    before, after = (image, None) if op == "d" else (None, image)
    return RowChange("t", op, before, after, lsn, 7, at)


@dataclass
class Dimension:
    """The SCD2 records of one key."""

    state: RowState | None = None
    records: list[Scd2Record] = field(default_factory=list)
    offset: int = 0

    def take(self, one: RowChange) -> str:
        self.offset += 1
        result = apply_change(one, KEY, self.state, untracked=UNTRACKED, source=source(self.offset, one.lsn))
        self.state = result.state
        self.records += result.records
        return result.effect

    @property
    def opens(self) -> list[Scd2Open]:
        return [record for record in self.records if isinstance(record, Scd2Open)]

    @property
    def closes(self) -> dict[str, Scd2Close]:
        return {record.version_id: record for record in self.records if isinstance(record, Scd2Close)}


def kinds(dimension: Dimension) -> list[tuple[str, str]]:
    return [("open" if isinstance(r, Scd2Open) else "close", r.reason) for r in dimension.records]


@pytest.mark.parametrize(
    ("changes", "expected", "why"),
    [
        ([change("c", 1, 1, a=1)], [("open", "created")], "a first row"),
        ([change("r", 1, 1, a=1)], [("open", "created")], "a snapshot of a row that was not known"),
        ([change("u", 1, 1, a=1)], [("open", "created")], "an update of a row that was not known"),
        (
            [change("c", 1, 1, a=1), change("u", 2, 2, a=2)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "a change",
        ),
        ([change("c", 1, 1, a=1), change("u", 2, 2, a=1)], [("open", "created")], "an update that changed nothing"),
        ([change("c", 1, 1, balance=1), change("u", 2, 2, balance=2)], [("open", "created")], "an untracked column"),
        ([change("c", 1, 1, a=1), change("d", 2, 2, a=1)], [("open", "created"), ("close", "deleted")], "a delete"),
        (
            [change("c", 1, 1, a=1), change("d", 2, 2, a=1), change("c", 3, 3, a=1)],
            [("open", "created"), ("close", "deleted"), ("open", "revived")],
            "a revival, of equal content",
        ),
        ([change("d", 1, 1, a=1)], [], "a delete of a row that was not known"),
        (
            [change("d", 2, 2, a=1), change("c", 1, 1, a=1)],
            [],
            "an old insert after the delete of a row that was not known",
        ),
        (
            [change("d", 2, 2, a=1), change("c", 3, 3, a=1)],
            [("open", "created")],
            "a new row with the key of one that was never known alive",
        ),
        ([change("c", 1, 1, a=1), change("r", 5, 5, a=1)], [("open", "created")], "a snapshot of the same row"),
        (
            [change("c", 1, 1, a=1), change("r", 5, 5, a=2)],
            [("open", "created"), ("close", "superseded"), ("open", "resnapshot")],
            "a snapshot that found the row changed",
        ),
        ([change("c", 9, 1, a=1), change("r", 5, 5, a=2)], [("open", "created")], "a snapshot older than the row"),
        (
            [change("r", 5, 1, a=1), change("u", 5, 2, a=2)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "the first change after a snapshot may have the snapshot's position",
        ),
        (
            [change("r", 5, 1, a=1), change("u", 5, 2, a=2), change("r", 5, 1, a=1)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "and the snapshot once more is a replay",
        ),
        (
            [change("r", 100, 1, a=1), change("u", 95, 2, a=2), change("r", 100, 1, a=1), change("u", 95, 2, a=2)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "a transaction that was under way at the snapshot wrote before it and committed after it",
        ),
        (
            [change("c", 10, 1, a=1), change("r", 100, 2, a=1), change("d", 95, 3, a=1), change("r", 100, 2, a=1)],
            [("open", "created"), ("close", "deleted")],
            "so did a delete, and the snapshot once more does not bring the row back",
        ),
        (
            [change("c", None, 1, a=1), change("u", None, 2, a=2)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "without positions, Kafka's order counts",
        ),
        (
            [change("c", 1, 1, a=None), change("u", 2, 2, a="")],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "NULL is not an empty text",
        ),
        (
            [change("c", 1, 1, a=1), change("u", 2, 2, a=1, b=None)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "a column was added",
        ),
        (
            [change("c", 1, 1, a=1, b=1), change("u", 2, 2, a=1)],
            [("open", "created"), ("close", "superseded"), ("open", "updated")],
            "a column was dropped",
        ),
    ],
)
def test_a_history_gives_its_versions(changes: list[RowChange], expected: list[tuple[str, str]], why: str) -> None:
    dimension = Dimension()
    for one in changes:
        dimension.take(one)
    assert kinds(dimension) == expected, why


def test_changes_of_one_instant_are_kept_in_order() -> None:
    dimension = Dimension()
    for lsn, value in ((1, "a"), (2, "b"), (3, "c")):
        dimension.take(change("u", lsn, 5, a=value))
    assert [json.loads(bytes(opened.attributes["a"])) for opened in dimension.opens] == ["a", "b", "c"]
    assert len({opened.valid_from for opened in dimension.opens}) == 1


def test_time_that_runs_backwards_makes_no_overlap() -> None:
    dimension = Dimension()
    dimension.take(change("c", 1, 1_000_000, a=1))
    dimension.take(change("u", 2, 500_000, a=2))
    dimension.take(change("d", 3, 100_000, a=2))
    dimension.take(change("c", 4, 200_000, a=3))
    assert {record.valid_from for record in dimension.records} == {format_us(1_000_000)}
    assert {closed.valid_to for closed in dimension.closes.values()} == {format_us(1_000_000)}


def test_a_key_change_links_both_keys() -> None:
    old = Dimension()
    old.take(change("c", 1, 1, a=1))
    moved = change("d", 2, 2, a=1)
    old.take(RowChange("t", "d", moved.before, None, 2, 7, 2, next_key={"id": 9}))
    closed = old.closes[old.opens[0].version_id]
    assert (closed.reason, closed.next_key) == ("key_changed", {"id": 9})
    new = apply_change(
        RowChange("t", "c", None, row(a=1), 2, 7, 2, previous_key=KEY),
        {"id": 9},
        None,
        untracked=UNTRACKED,
        source=source(3, 2),
    )
    (opened,) = new.records
    assert isinstance(opened, Scd2Open)
    assert (opened.reason, opened.previous_key) == ("key_changed", KEY)


@pytest.mark.parametrize(("lsn", "closed"), [(10, True), (20, False), (30, False), (None, True)])
def test_a_truncate_closes_exactly_what_is_older_than_itself(lsn: int | None, closed: bool) -> None:
    dimension = Dimension()
    dimension.take(change("c", lsn, 1, a=1))
    assert dimension.state is not None
    result = apply_truncate(KEY, dimension.state, Truncation(20, 9, source(1, 20)))
    assert [record.reason for record in result.records] == (["truncated"] if closed else [])
    assert result.state.alive is not closed


def test_a_truncated_or_vanished_row_keeps_its_known_columns() -> None:
    known = RowState(True, row(a=1), 10, 12, "v", 9_000, 77)
    cut = apply_truncate(KEY, known, Truncation(20, 5_000, source(1, 20)))
    assert cut.state == RowState(False, row(a=1), 20, 12, "v", 9_000, 77), "it ends no earlier than it began"
    lost = apply_snapshot(KEY, known, Snapshot(20, 9_500, 78, source(1, 20)))
    assert lost.state == RowState(False, row(a=1), 10, 20, "v", 9_500, 77)
    for result, reason, ended_us in ((cut, "truncated", 9_000), (lost, "vanished", 9_500)):
        assert result.effect == "applied"
        assert result.records == (
            Scd2Close("v", KEY, format_us(9_000), format_us(ended_us), reason, source(1, 20)),  # type: ignore[arg-type]
        )


def test_a_truncate_or_snapshot_leaves_later_and_deleted_rows_unchanged() -> None:
    young, gone = RowState(True, row(), 30, None, "v", 0, 99), RowState(False, row(), 10, None, "v", 0, 1)
    for state in (young, gone):
        for result in (
            apply_truncate(KEY, state, Truncation(20, 9, source(1, 20))),
            apply_snapshot(KEY, state, Snapshot(20, 9, 50, source(1, 20))),
        ):
            assert (result.state, result.records, result.effect) == (state, (), "unchanged")


@pytest.mark.parametrize("operation", ["c", "u", "d", "r"])
def test_a_change_that_is_delivered_twice_is_a_replay(operation: Operation) -> None:
    dimension = Dimension()
    dimension.take(change("c", 1, 1))
    assert [dimension.take(change(operation, 2, 2)) for _ in range(2)][1] == "replayed"


@pytest.mark.parametrize(
    ("columns", "effect"), [({"a": 1, "balance": 1}, "unchanged"), ({"a": 1, "balance": 2}, "applied")]
)
def test_an_update_that_opens_no_version_says_whether_anything_changed(columns: dict[str, Any], effect: str) -> None:
    dimension = Dimension()
    dimension.take(change("c", 1, 1, a=1, balance=1))
    assert dimension.take(change("u", 2, 2, **columns)) == effect
    assert len(dimension.records) == 1


def test_deleting_a_deleted_row_changes_nothing() -> None:
    dimension = Dimension()
    assert [dimension.take(change("d", lsn, lsn)) for lsn in (1, 2)] == ["unchanged", "unchanged"]
    assert [dimension.take(one) for one in (change("c", 3, 3), change("d", 4, 4), change("d", 5, 5))] == [
        "applied", "applied", "unchanged",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "kept", "why"),
    [
        ({"a": 2, "b": 1}, {"a": 2, "b": 1}, "all columns, as they were in the end"),
        ({"a": 2, "b": 1, "c": 0}, {"a": 2, "b": 1, "c": 0}, "a column more"),
        ({}, {"a": 1, "b": 1}, "its key alone"),
    ],
)
def test_a_deleted_row_keeps_the_image_in_its_deletion_if_that_is_complete(
    before: dict[str, Any], kept: dict[str, Any], why: str
) -> None:
    dimension = Dimension()
    dimension.take(change("c", 1, 1, a=1, b=1))
    dimension.take(change("d", 2, 2, **before))
    assert dimension.state is not None
    assert dimension.state.attributes == row(**kept), why


@pytest.mark.parametrize(
    ("lsn", "recorded_ms", "missing", "why"),
    [
        (19, 49, True, "it was written before the snapshot, and recorded before it"),
        (20, 49, False, "it was written at the snapshot's position"),
        (19, 50, False, "it was recorded in the snapshot's own millisecond"),
        (19, 51, False, "its transaction was under way at the snapshot"),
    ],
)
def test_a_row_is_missing_only_if_both_its_position_and_its_record_are_before_the_snapshot(
    lsn: int, recorded_ms: int, missing: bool, why: str
) -> None:
    state = RowState(True, row(), lsn, None, "v", 0, recorded_ms)
    assert is_missing(state, Snapshot(20, 9, 50, source(1, 20))) is missing, why


@pytest.mark.parametrize("lsn", [0, 1, 1 << 62])
def test_any_position_is_later_than_none(lsn: int) -> None:
    state = RowState(True, row(), None, None, "v", 0)
    assert is_older(state, lsn)
    operations: tuple[Operation, ...] = ("c", "u", "d", "r")
    for operation in operations:
        assert not is_replay(state, change(operation, lsn, 1)), operation


def test_a_version_id_depends_on_nothing_but_table_key_and_position() -> None:
    one, other = Dimension(), Dimension(offset=1000)
    for dimension in (one, other):
        dimension.take(change("c", 1, 1, a=1))
        dimension.take(change("u", 2, 2, a=2))
    assert [o.version_id for o in one.opens] == [o.version_id for o in other.opens]
    assert len({o.version_id for o in one.opens}) == 2


@pytest.mark.parametrize(
    ("operation", "lsn", "expected", "why"),
    [
        ("c", 5, "0de7298dc14e4741ac160e052bfbb1eb", "a change, by its lsn"),
        ("u", 5, "0de7298dc14e4741ac160e052bfbb1eb", "of any operation"),
        ("r", 5, "e8636a93a2da9e1313a057920c420c31", "a snapshot read, by its lsn, which a change may have too"),
        ("u", None, "43a0914187e4404f82f3bb290375624a", "without an lsn, by its place in Kafka"),
    ],
)
def test_a_version_has_the_id_that_it_has_always_had(
    operation: Operation, lsn: int | None, expected: str, why: str
) -> None:
    """Another id would make a second version of it wherever the first one is stored."""
    found = [
        version_id("t", key, change(operation, lsn, 1), source(9, lsn)) for key in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]
    assert found == [expected, expected], why


def test_a_snapshot_read_does_not_count_as_the_last_change_that_kafka_recorded() -> None:
    operations: tuple[Operation, ...] = ("c", "r", "u", "r")
    state: RowState | None = None
    recorded: list[int] = []
    for at, operation in enumerate(operations, 1):
        one = change(operation, at, at)
        state = apply_change(one, KEY, state, untracked=UNTRACKED, source=source(at, at), recorded_ms=at).state
        recorded.append(state.recorded_ms)
    assert recorded == [1, 1, 3, 3]


# -- any history, compared with a plain list of the row's events ---------------------------------------------------

Past = list[tuple[str, int, int, dict[str, Any] | None]]
"""(operation, lsn, commit time, the row after it or None), as the database has it."""

values = st.fixed_dictionaries({"a": st.sampled_from([1, 2, None, ""]), "balance": st.integers(0, 3)})


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    past: Past = []
    current: dict[str, Any] | None = None
    lsn, at = 10, 1_000
    for _ in range(draw(st.integers(0, 25))):
        lsn += draw(st.integers(1, 5))
        at += draw(st.integers(-2, 5))
        if current is None:
            current = draw(values)
            past.append(("c", lsn, at, current))
        elif draw(st.integers(0, 4)) == 0:
            past.append(("d", lsn, at, current))
            current = None
        else:
            current = draw(values)
            past.append(("u", lsn, at, current))
    return past


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[Past, list[RowChange]]:
    """A row's events, and their delivery: with repeated suffixes, snapshots in between, and the whole log again."""
    past = draw(pasts())
    delivered: list[RowChange] = []
    snapshots: list[RowChange] = []

    def deliver(part: Past) -> None:
        delivered.extend(change(op, lsn, at, **(image or {})) for op, lsn, at, image in part)  # type: ignore[arg-type]

    for position, entry in enumerate(past):
        before = past[position - 1] if position else None
        if before is not None and before[0] != "d" and draw(st.integers(0, 5)) == 0:
            # a snapshot while the transaction of this entry was open: its position is higher, and it lacks the change
            snapshots.append(change("r", entry[1] + 1, before[2], **(before[3] or {})))
            delivered.append(snapshots[-1])
        deliver([entry])
        if draw(st.integers(0, 5)) == 0:
            deliver(past[draw(st.integers(0, position)) : position + 1])
            delivered.extend(snapshots)
        if entry[0] != "d" and draw(st.integers(0, 5)) == 0:
            snapshots.append(change("r", entry[1] + 1, entry[2] + 1, **(entry[3] or {})))
            delivered.append(snapshots[-1])
    if draw(st.booleans()):
        deliver(past)
    return past, delivered


def tracked(image: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in image.items() if name not in UNTRACKED}


def expected_versions(past: Past) -> list[tuple[dict[str, Any], str | None]]:
    """Tracked columns and close reason of each version, computed from the list alone."""
    versions: list[tuple[dict[str, Any], str | None]] = []
    alive = False
    for op, _, _, image in past:
        if op == "d":
            versions[-1] = (versions[-1][0], "deleted")
            alive = False
            continue
        assert image is not None
        if alive and versions[-1][0] == tracked(image):
            continue
        if alive:
            versions[-1] = (versions[-1][0], "superseded")
        versions.append((tracked(image), None))
        alive = True
    return versions


@settings(max_examples=400, deadline=None)
@given(deliveries())
def test_any_delivery_of_any_history_gives_the_expected_versions(delivery: tuple[Past, list[RowChange]]) -> None:
    past, delivered = delivery
    dimension = Dimension()
    for one in delivered:
        dimension.take(one)
    closes = dimension.closes
    found = [
        (
            tracked({name: json.loads(bytes(value)) for name, value in opened.attributes.items() if name != "id"}),
            closes[opened.version_id].reason if opened.version_id in closes else None,
        )
        for opened in dimension.opens
    ]
    assert found == expected_versions(past)
    assert len({opened.version_id for opened in dimension.opens}) == len(dimension.opens)
    assert len(closes) == sum(isinstance(record, Scd2Close) for record in dimension.records)
    spans = [
        (opened.valid_from, closes[opened.version_id].valid_to if opened.version_id in closes else "9999")
        for opened in dimension.opens
    ]
    assert all(start <= end for start, end in spans)
    assert all(end <= later for (_, end), (later, _) in pairwise(spans))
    if past:
        assert dimension.state is not None
        assert dimension.state.alive == (past[-1][0] != "d")
        if past[-1][0] != "d":
            last = {
                name: json.loads(bytes(value)) for name, value in dimension.state.attributes.items() if name != "id"
            }
            assert last == past[-1][3]
