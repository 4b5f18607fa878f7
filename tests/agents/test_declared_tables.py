"""Tests that a declared table gets versions without code of its own, and that a snapshot closes the versions of deleted rows."""

from typing import Any

import pytest

from app.domain.captured import CapturedTable
from tests.support.bank.cdc import CdcLog, Record, json_bytes
from tests.support.streams.topology_driver import TopologyDriver

CARDS = CapturedTable("cards", {"branch": "text", "number": "integer"}, untracked=frozenset({"hits"}))
TOPIC = "bank.scd2.cards"


def card(branch: str = "Zürich", number: int = 1, **columns: Any) -> dict[str, Any]:
    return {"branch": branch, "number": number, "limit": "10.00", "hits": 0} | columns


class Cards(CdcLog):
    """The log of a table whose key has two columns."""

    def __init__(self) -> None:
        super().__init__("cards", "number")

    def change(self, op: str, *, before: Any = None, after: Any = None, **options: Any) -> Record:
        made = super().change(op, before=before, after=after, **options)
        row = after or before
        key = None if row is None else json_bytes({"branch": row["branch"], "number": row["number"]})
        self.records[-1] = Record(
            made.topic, made.value, key, made.partition, made.offset, made.timestamp, made.headers
        )
        return self.records[-1]


def streams(table: CapturedTable = CARDS) -> TopologyDriver:
    return TopologyDriver(table)


def kinds(found: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(record["op"], record["reason"], record["key"]["number"]) for record in found]


def test_a_declared_table_has_versions_by_its_composite_key() -> None:
    running, log = streams(), Cards()
    running.take(
        log.change("c", after=card()),
        log.change("c", after=card("Bern")),
        log.change("u", before=card(), after=card(hits=7)),
        log.change("u", before=card(hits=7), after=card(limit="20.00", hits=8)),
        log.change("d", before=card("Bern")),
    )
    assert [(r["op"], r["reason"], r["key"]) for r in running.values(TOPIC)] == [
        ("open", "created", {"branch": "Zürich", "number": 1}),
        ("open", "created", {"branch": "Bern", "number": 1}),
        ("close", "superseded", {"branch": "Zürich", "number": 1}),
        ("open", "updated", {"branch": "Zürich", "number": 1}),
        ("close", "deleted", {"branch": "Bern", "number": 1}),
    ]
    assert running.values(TOPIC)[3]["changed"] == ["hits", "limit"]
    assert running.outputs[0].key == '{"branch":"Zürich","number":1}'.encode()


def test_a_composite_key_that_changes_links_both_keys() -> None:
    running, log = streams(), Cards()
    old, new = {"branch": "Zürich", "number": 1}, {"branch": "Zürich", "number": 2}
    running.take(
        log.change("c", after=card()),
        log.change("d", before=card(), headers=(("__debezium.newkey", json_bytes(new)),)),
        log.append(json_bytes(old), None),
        log.change("c", after=card(number=2), lsn=log.lsn, headers=(("__debezium.oldkey", json_bytes(old)),)),
    )
    _, close, opened = running.values(TOPIC)
    assert (close["reason"], close["key"], close["next_key"]) == ("key_changed", old, new)
    assert (opened["reason"], opened["key"], opened["previous_key"]) == ("key_changed", new, old)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b'{"number":1}', "no_key"),
        (b'{"branch":7,"number":1}', "key_mismatch"),
        (b'{"branch":"other","number":1}', "key_mismatch"),
        (None, "no_key"),
    ],
)
def test_a_key_unlike_the_declared_one_is_refused(key: bytes | None, reason: str) -> None:
    running, log = streams(), Cards()
    made = log.change("c", after=card())
    running.take(log.append(key, made.value))
    assert running.reasons == [reason]


def test_a_message_without_schema_is_read_as_its_table_is_declared() -> None:
    """Debezium's default modes give the same row as our connector's modes, so that a change of mode opens no version."""
    encodings = {"limit": "decimal:2", "since": "timestamp-us", "born": "date"}
    table = CapturedTable("cards", CARDS.key, CARDS.untracked, encodings)
    running, log = streams(table), Cards()
    written: dict[str, Any] = {"limit": "AfQ=", "since": 1_772_442_000_000_000, "born": -1}
    running.take(log.change("c", after=card(**written)), log.change("u", after=card(**written, hits=1)))
    (opened,) = running.values(TOPIC)
    assert {name: opened["attributes"][name] for name in written} == {
        "limit": "5.00", "since": "2026-03-02T09:00:00.000000Z", "born": "1969-12-31Z",
    }  # fmt: skip
    running.take(log.change("u", after=card(**(written | {"limit": "no base64"}))))
    assert running.reasons == ["bad_value"]


def test_a_key_column_of_another_type_than_declared_is_refused() -> None:
    running, log = streams(), Cards()
    running.take(log.change("c", after=card(branch=7)))  # type: ignore[arg-type]
    assert running.reasons == ["bad_key"]


def snapshot(log: Cards, *rows: dict[str, Any]) -> list[Record]:
    """All rows of a table, the last one marked."""
    lsn = log.lsn + 5
    marks = ["true"] * (len(rows) - 1) + ["last_in_data_collection"]
    return [log.change("r", after=row, lsn=lsn, snapshot=mark) for row, mark in zip(rows, marks, strict=True)]


def test_a_resnapshot_updates_changed_rows_and_closes_deleted_ones() -> None:
    running, log = streams(), Cards()
    running.take(*(log.change("c", after=card(number=number)) for number in (1, 2, 3)))
    before = len(running.values(TOPIC))
    running.take(*snapshot(log, card(number=1), card(number=2, limit="99.00"), card(number=4)))
    running.pass_barriers()
    found = running.values(TOPIC)[before:]
    assert kinds(found) == [
        ("close", "superseded", 2), ("open", "resnapshot", 2), ("open", "created", 4), ("close", "vanished", 3),
    ]  # fmt: skip
    assert found[-1]["source"]["offset"] == 5, "the row that bore the mark"
    assert found[-1]["valid_to"] == found[-1]["source"]["commit_time"]
    assert running.pass_barriers() == [], "once"


def test_a_row_inserted_during_a_snapshot_stays_open() -> None:
    running, log = streams(), Cards()
    running.take(log.change("c", after=card(number=1)))
    wrote_before = log.lsn + 2  # below the snapshot's position: its transaction was open at the snapshot
    read = snapshot(log, card(number=1))
    running.take(*read, log.change("c", after=card(number=2), lsn=wrote_before), log.change("c", after=card(number=3)))
    running.pass_barriers()
    assert kinds(running.values(TOPIC)) == [("open", "created", 1), ("open", "created", 2), ("open", "created", 3)]


def test_a_vanished_key_that_is_inserted_before_all_partitions_know_has_both_versions() -> None:
    running, log = streams(), Cards()
    running.take(log.change("c", after=card(number=1)), log.change("c", after=card(number=2)))
    first, last = snapshot(log, card(number=2), card(number=5))
    again = log.change("c", after=card(number=1))
    running.take(first, last, again)
    assert kinds(running.values(TOPIC))[2:] == [
        ("open", "created", 5),
        ("close", "vanished", 1),
        ("open", "revived", 1),
    ]
    assert running.pass_barriers() == []


@pytest.mark.parametrize("inserted_again", [True, False])
def test_a_row_missing_from_a_snapshot_was_deleted_before_a_truncate_that_is_read_first(inserted_again: bool) -> None:
    """The end of a snapshot and a later TRUNCATE are on different partitions, so either may be read first. The rows give the order."""
    running, log = streams(), Cards()
    running.take(log.change("c", after=card(number=1)), log.change("c", after=card(number=2)))
    first, last = snapshot(log, card(number=2), card(number=5))
    truncate = log.change("t")
    again = log.change("c", after=card(number=1))
    running.take(first, truncate, *([again] if inserted_again else []))
    running.pass_barriers()
    found = [record for record in running.values(TOPIC) if record["key"]["number"] == 1][1:]
    assert kinds(found) == [("close", "vanished", 1), *([("open", "revived", 1)] if inserted_again else [])]
    assert found[0]["source"]["offset"] == first.offset
    assert kinds(running.values(TOPIC))[-1 if not inserted_again else 4] == ("close", "truncated", 2)
    before = len(running.values(TOPIC))
    running.take(last)
    running.pass_barriers()
    assert kinds(running.values(TOPIC)[before:]) == [("open", "created", 5)]


def test_a_snapshot_that_leaves_rows_out_closes_nothing() -> None:
    table = CapturedTable("cards", CARDS.key, CARDS.untracked, whole_snapshots=False)
    running, log = streams(table), Cards()
    running.take(log.change("c", after=card(number=1)), *snapshot(log, card(number=2)))
    running.pass_barriers()
    assert kinds(running.values(TOPIC)) == [("open", "created", 1), ("open", "created", 2)]
    assert running.values("bank.control") == []


def test_an_incremental_snapshot_closes_no_other_rows() -> None:
    running, log = streams(), Cards()
    running.take(log.change("c", after=card(number=1)), log.change("r", after=card(number=2), snapshot="incremental"))
    running.pass_barriers()
    assert kinds(running.values(TOPIC)) == [("open", "created", 1), ("open", "created", 2)]


def test_a_repeated_snapshot_closes_no_later_row() -> None:
    running, log = streams(), Cards()
    running.take(log.change("c", after=card(number=1)))
    read = snapshot(log, card(number=1))
    running.take(*read)
    running.pass_barriers()
    running.take(log.change("c", after=card(number=2), lsn=read[0].offset + 1), *(log.again(record) for record in read))
    running.pass_barriers()
    assert kinds(running.values(TOPIC)) == [("open", "created", 1), ("open", "created", 2)]
