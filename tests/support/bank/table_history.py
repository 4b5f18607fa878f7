"""A table in a source database: Debezium's records of its changes and, computed independently, the versions of its rows.

The versions are computed from a plain list of the changes of each key, without the application's code, and compared with the
application's. Two ends of versions are not determined. If the key of a removed row is inserted again before every partition has received
the removal, the version ends at the removal or, as `vanished`, at that insert. If a snapshot does not contain a row and none of its rows
arrived on the row's partition, the version may end at a later TRUNCATE that the partition receives first.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from app.domain.captured import CapturedTable
from app.engine.keys import partition_for
from tests.support.bank.cdc import COMMIT_US, Record, envelope, json_bytes

Key = tuple[str, int]
Row = dict[str, Any]
Happening = Literal["insert", "update", "delete", "leave", "arrive", "truncate", "read", "vanish"]

CARDS: Final = CapturedTable("cards", {"branch": "text", "number": "integer"}, untracked=frozenset({"hits"}))
TOPIC: Final = "bank.public.cards"
PLACEHOLDER: Final = "__debezium_unavailable_value"
PARTITIONS: Final = 3


@dataclass(frozen=True)
class RowEvent:
    """An event of a key. `other`: the new or the previous key of a row whose key changed."""

    what: Happening
    at_us: int
    row: Row | None = None
    other: Key | None = None
    told: bool = True
    """For a row that vanished: whether its partition received a row of the snapshot."""


@dataclass
class Version:
    """An expected version."""

    attributes: Row
    reason: str
    valid_from: int
    close: tuple[str, int] | None = None
    previous: Key | None = None
    next: Key | None = None


@dataclass
class TableHistory:
    """The table, its log by partition, and the events of each key. Nothing is logged while `cut_off`."""

    rows: dict[Key, Row] = field(default_factory=dict)
    facts: dict[Key, list[RowEvent]] = field(default_factory=lambda: defaultdict(list))
    log: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    columns: dict[str, Any] = field(default_factory=dict)
    """Columns that were added, with their defaults."""
    cut_off: bool = False
    lsn: int = 1_000
    at_us: int = COMMIT_US
    recorded_ms: int = COMMIT_US // 1000
    _unheard: list[tuple[Key, int]] = field(default_factory=list)

    # -- the events --------------------------------------------------------------------------------------------------

    def insert(self, key: Key, lsn: int | None = None, **columns: Any) -> None:
        """Inserts a row. The key must not exist."""
        row = {"branch": key[0], "number": key[1], "a": None, "big": "x" * 40, "hits": 0} | self.columns | columns
        self.rows[key] = row
        self._happened(key, RowEvent("insert", self.at_us, row), "c", after=row, lsn=lsn)

    def update(
        self, key: Key, *, toast: bool = False, whole: bool = True, lsn: int | None = None, **columns: Any
    ) -> None:
        """Updates a row. `toast`: the log lacks its large column; `whole`: the log has the row before the change."""
        before = self.rows[key]
        row = self.rows[key] = before | self.columns | columns
        after = row | ({"big": PLACEHOLDER} if toast and "big" not in columns else {})
        self._happened(
            key, RowEvent("update", self.at_us, row), "u", before=before if whole else None, after=after, lsn=lsn
        )

    def delete(self, key: Key, *, before: Literal["row", "key", "nothing"] = "row", lsn: int | None = None) -> None:
        """Deletes a row. A tombstone follows."""
        row = self.rows.pop(key)
        images = {"row": row, "key": {"branch": key[0], "number": key[1]}, "nothing": None}
        self._happened(key, RowEvent("delete", self.at_us), "d", before=images[before], lsn=lsn)
        self._write(key, None)

    def move(self, old: Key, new: Key) -> None:
        """Changes a row's primary key. Debezium writes a delete, a tombstone and an insert at one position."""
        before = self.rows.pop(old)
        row = self.rows[new] = before | {"branch": new[0], "number": new[1]}
        lsn = self._next()
        self._happened(
            old,
            RowEvent("leave", self.at_us, None, new),
            "d",
            before=before,
            lsn=lsn,
            headers=(("__debezium.newkey", _key(new)),),
        )
        self._write(old, None)
        self._happened(
            new,
            RowEvent("arrive", self.at_us, row, old),
            "c",
            after=row,
            lsn=lsn,
            headers=(("__debezium.oldkey", _key(old)),),
        )

    def truncate(self) -> None:
        """Truncates the table. One partition of the log has the record."""
        lsn = self._next()
        for key in self.rows:
            self._fact(key, RowEvent("truncate", self.at_us))
        for key in self.facts.keys() - self.rows.keys():
            if self.facts[key][-1].what in ("vanish", "truncate"):
                self._fact(key, RowEvent("truncate", self.at_us))
        self.rows.clear()
        if not self.cut_off:
            self._append(0, None, envelope("cards", "t", lsn=lsn, commit_us=self.at_us))

    def add_column(self, name: str, default: Any) -> None:
        """Adds a column to every row. A row's next change has it."""
        self.columns[name] = default

    def pass_time(self, by_us: int) -> None:
        """Moves the source's clock, also backwards."""
        self.at_us += by_us

    def lose_slot(self) -> None:
        """Stops logging from now on."""
        self.cut_off = True

    def snapshot(self, under_way: Callable[[], None] | None = None) -> None:
        """Reads every row, and logging continues. `under_way` has the changes of transactions that wrote before the snapshot and are not
        visible to it. They get the log positions below the snapshot that were kept for them (`reserved`), and are logged after it."""
        self.lose_slot() if not self.cut_off else None
        self.reserved = [self._next() for _ in range(3)]
        lsn, self.cut_off = self._next(), False
        self.recorded_ms += 1_000
        self.rows = {key: row | self.columns for key, row in self.rows.items()}
        read = list(self.rows.items())
        told = {_partition(key) for key in self.rows}
        for key in self.facts.keys() - self.rows.keys():
            if _lives(self.facts[key]):
                self.facts[key].append(RowEvent("vanish", self.at_us, told=_partition(key) in told))
        for number, (key, row) in enumerate(read):
            mark = "last_in_data_collection" if number == len(read) - 1 else "true"
            self.facts[key].append(RowEvent("read", self.at_us, row))
            self._write(key, envelope("cards", "r", after=row, lsn=lsn, commit_us=self.at_us, snapshot=mark))
        if under_way is not None:
            self.pass_time(10)
            under_way()

    def repeat(self, partition: int, start: int) -> None:
        """Sends the end of a partition again, like a connector that lost its position."""
        for record in list(self.log[partition][start:]):
            self._append(partition, record.key, record.value, record.headers)

    # -- the expected versions -----------------------------------------------------------------------------------------

    def versions(self, key: Key, closes: list[tuple[str, int] | None]) -> list[Version]:  # noqa: C901 - a list of what can happen
        """The expected versions of a key. `closes` has the actual ends, which decide only where two ends are correct."""
        found: list[Version] = []
        alive, since, gone, told = False, -(1 << 62), False, True
        for fact in self.facts[key]:
            match fact.what:
                case "insert" | "arrive" | "update" | "read":
                    assert fact.row is not None
                    if alive and _tracked(found[-1].attributes) == _tracked(fact.row):
                        continue_with = found[-1]
                        continue_with.attributes = continue_with.attributes | {"hits": fact.row["hits"]}
                        continue
                    if alive:
                        since = max(fact.at_us, since)
                        found[-1].close = ("superseded", since)
                    elif gone and fact.what in ("insert", "arrive") and len(found) <= len(closes):
                        late = ("vanished", max(fact.at_us, found[-1].valid_from))
                        if closes[len(found) - 1] == late:
                            found[-1].close, since = late, late[1]
                    reason = {"arrive": "key_changed", "update": "updated", "read": "resnapshot", "insert": "updated"}[
                        fact.what
                    ]
                    if fact.what != "arrive" and not alive:
                        reason = "revived" if found else "created"
                    since = max(fact.at_us, since)
                    found.append(Version(fact.row, reason, since, previous=fact.other))
                    alive, gone = True, False
                case "delete" | "leave" | "truncate" | "vanish":
                    if not alive:
                        if fact.what == "truncate" and not told and len(found) <= len(closes):
                            behind = ("truncated", max(fact.at_us, found[-1].valid_from))
                            if closes[len(found) - 1] == behind:
                                found[-1].close, since = behind, behind[1]
                        continue
                    since = max(fact.at_us, since)
                    reasons = {
                        "delete": "deleted",
                        "leave": "key_changed",
                        "truncate": "truncated",
                        "vanish": "vanished",
                    }
                    found[-1].close, found[-1].next = (reasons[fact.what], since), fact.other
                    alive, gone, told = False, fact.what in ("truncate", "vanish"), fact.told
        return found

    # -- the log -------------------------------------------------------------------------------------------------------

    def _happened(
        self, key: Key, fact: RowEvent, op: str, *, lsn: int | None, headers: Any = (), **images: Any
    ) -> None:
        position = self._next() if lsn is None else lsn
        if self.cut_off:
            return
        self.facts[key].append(fact)
        self._write(key, envelope("cards", op, lsn=position, commit_us=self.at_us, **images), headers)

    def _fact(self, key: Key, fact: RowEvent) -> None:
        if not self.cut_off:
            self.facts[key].append(fact)

    def _next(self) -> int:
        self.lsn += 8
        return self.lsn

    def _write(self, key: Key, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        if not self.cut_off:
            self._append(_partition(key), _key(key), value, headers)

    def _append(
        self, partition: int, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:  # fmt: skip
        self.recorded_ms += len(self.log[partition]) % 2  # some records share a millisecond
        offset = len(self.log[partition])
        self.log[partition].append(Record(TOPIC, value, key, partition, offset, self.recorded_ms, headers))


def _key(key: Key) -> bytes:
    return json_bytes({"branch": key[0], "number": key[1]})


def _partition(key: Key) -> int:
    return partition_for(_key(key), PARTITIONS)


def _tracked(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "hits"}


def _lives(facts: list[RowEvent]) -> bool:
    return bool(facts) and facts[-1].what in ("insert", "arrive", "update", "read")
