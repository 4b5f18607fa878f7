"""What a derived record must say, given the change that it names as its source. Pure."""

from typing import Any, Final

import msgspec

from app.cdc.envelope import decode
from app.cdc.unavailable import is_placeholder
from app.config.topics import ALERTS, DEAD_LETTERS, PREFIX, TRANSACTIONS, VELOCITY
from app.domain.changes import Row, RowChange
from app.domain.changes import changed_columns as columns_differing
from app.domain.records import AlertRecord, Scd2Close, Source, TransactionRecord, VelocityRecord
from app.domain.scd2 import version_id
from app.domain.screening import alert_id
from app.domain.times import format_us
from app.engine.dead_letters import DeadLetter
from app.errors import PoisonRecordError
from app.postgres import lsn_text
from app.proof.reconcile import canonical
from app.proof.trace import values
from app.proof.trace.record_position import RecordPosition
from app.proof.trace.report import Check, differs, judged, noted

CAPTURED: Final = f"{PREFIX}.public."
VERSIONS: Final = f"{PREFIX}.scd2."
"""What the topics of versions begin with; the table's name follows."""
CLOSED_BY: Final = {"superseded": "cur", "deleted": "d", "key_changed": "d", "truncated": "t", "vanished": "rc"}
"""The operations that can end a version for each reason."""


class Opened(msgspec.Struct, frozen=True, tag_field="op", tag="open"):
    """An open record with its attributes as they were sent, digit by digit."""

    version_id: str
    key: dict[str, Any]
    valid_from: str
    attributes: Row
    reason: str
    source: Source


Derived = Opened | Scd2Close | TransactionRecord | VelocityRecord | AlertRecord | DeadLetter

_TYPES: Final[dict[str, Any]] = {
    TRANSACTIONS.name: TransactionRecord,
    VELOCITY.name: VelocityRecord,
    ALERTS.name: AlertRecord,
    DEAD_LETTERS.name: DeadLetter,
}


def is_captured(topic: str) -> bool:
    """Whether a topic has raw changes: the way ends there."""
    return topic.startswith(CAPTURED)


def read_derived(topic: str, value: bytes) -> Derived:
    """A record of a derived topic. ValueError if it is none."""
    try:
        kind = Opened | Scd2Close if topic.startswith(VERSIONS) else _TYPES[topic]
        found: Derived = msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"this is no record of {topic}: {error}") from None
    return found


def read_change(position: RecordPosition, value: bytes | None) -> RowChange:
    """The change in a raw record. ValueError if there is none in it."""
    try:
        change = decode(value, (), position.topic.removeprefix(CAPTURED))
    except PoisonRecordError as error:
        raise ValueError(str(error)) from None
    if change is None:
        raise ValueError("it carries no change of a row")
    return change


def origin(record: Derived) -> RecordPosition:
    """Where the record says that it comes from."""
    if isinstance(record, DeadLetter):
        return RecordPosition(record.topic, record.partition, record.offset)
    return RecordPosition(record.source.topic, record.source.partition, record.source.offset)


def evidence(record: Derived) -> list[RecordPosition]:
    """The other records that an alert rests on."""
    if not isinstance(record, AlertRecord):
        return []
    return [
        place
        for it in record.evidence
        if (place := RecordPosition(it.topic, it.partition, it.offset)) != origin(record)
    ]


def checks(topic: str, record: Derived, change: RowChange) -> list[Check]:
    """A derived record against the change it names."""
    if isinstance(record, DeadLetter):
        raise TypeError("a refused record is compared by its bytes")
    found = [_source(record.source, change)]
    if isinstance(record, Opened):
        found += _opened(topic.removeprefix(VERSIONS), record, change)
    elif isinstance(record, Scd2Close):
        found += _closed(record, change)
    else:
        found += _about_transaction(record, change)
    return found


def refused(record: DeadLetter, value: bytes | None) -> Check:
    """A dead letter against the record it holds."""
    return judged(
        record.value == value,
        "the dead letter has the record's bytes",
        "the dead letter has other bytes than the record",
    )


def _source(source: Source, change: RowChange) -> Check:
    said = (source.lsn, source.tx_id, source.commit_time)
    return judged(
        said == (change.lsn, change.tx_id, format_us(change.commit_us)),
        f"LSN, transaction and commit time are those of the change ({_lsn(change.lsn)}, {change.tx_id}, {source.commit_time})",
        f"says LSN {_lsn(source.lsn)}, transaction {source.tx_id}, {source.commit_time}; the change has {_lsn(change.lsn)}, "
        f"{change.tx_id}, {format_us(change.commit_us)}",
    )


def _opened(table: str, record: Opened, change: RowChange) -> list[Check]:
    made = version_id(table, record.key, change, record.source)
    found = [
        judged(
            made == record.version_id,
            "version_id is the function of table, key and source position that it must be",
            f"version_id is {record.version_id}, but table, key and source position give {made}",
        )
    ]
    if change.after is None:
        return [*found, differs(f"a version cannot be opened by op {change.operation!r}, which leaves no row")]
    after = _whole(change)
    wrong = columns_differing(after, {name: value for name, value in record.attributes.items() if name in after})
    wrong += sorted(record.attributes.keys() - change.after.keys())
    found.append(
        judged(
            not wrong,
            f"all {len(after)} attributes are the row that the change left",
            f"attributes that are not the row's after the change: {', '.join(wrong)}",
        )
    )
    return [*found, _instant("valid_from", record.valid_from, change)]


def _closed(record: Scd2Close, change: RowChange) -> list[Check]:
    found = judged(
        change.operation in CLOSED_BY[record.reason],
        f"op {change.operation!r} closes a version as {record.reason}",
        f"op {change.operation!r} cannot close a version as {record.reason}",
    )
    if record.reason == "vanished" and change.operation == "r":
        return [found, noted(f"valid_to is {record.valid_to}: when the snapshot that did not find the row was taken")]
    return [found, _instant("valid_to", record.valid_to, change)]


def _about_transaction(record: TransactionRecord | VelocityRecord | AlertRecord, change: RowChange) -> list[Check]:
    row = change.after if change.after is not None else change.before
    if row is None:
        return [differs(f"op {change.operation!r} says nothing of a transaction")]
    plain = values.plain(row)
    said = msgspec.to_builtins(record)
    if not isinstance(record, TransactionRecord):
        said = {
            "account_id": record.account_id,
            "transaction_id": record.transaction_id,
            "booked_at": record.event_time,
        }
    wrong = [name for name in plain.keys() & said.keys() if not _same_text(said[name], plain[name])]
    found = [
        judged(
            not wrong,
            f"{len(plain.keys() & said.keys())} columns are those of the changed row",
            f"columns that are not those of the changed row: {', '.join(sorted(wrong))}",
        )
    ]
    if isinstance(record, AlertRecord):
        made = alert_id(record.rule, record.customer_id, record.account_id, record.transaction_id)
        found.append(
            judged(
                made == record.alert_id,
                "alert_id is the function of rule and transaction that it must be",
                f"alert_id is {record.alert_id}, but rule and transaction give {made}",
            )
        )
    return found


def _same_text(said: Any, column: Any) -> bool:
    """A field of a record and the column it was taken from: times may be written otherwise."""
    if said is None or column is None:
        return said is column
    return str(said) == str(column) or canonical.instant(said) == canonical.instant(column)


def _instant(name: str, text: str, change: RowChange) -> Check:
    committed = format_us(change.commit_us)
    if text > committed:
        return noted(f"{name} is {text}, lifted above the commit at {committed}: the clock of the source ran backwards")
    return judged(
        text == committed, f"{name} is the commit time", f"{name} is {text}, before the commit at {committed}"
    )


def _whole(change: RowChange) -> Row:
    """The row after a change. Columns that the log does not have are left out."""
    assert change.after is not None
    if change.operation != "u":
        return change.after
    before = change.before or {}
    kept = {name: before.get(name, value) if is_placeholder(value) else value for name, value in change.after.items()}
    return {name: value for name, value in kept.items() if not is_placeholder(value)}


def _lsn(lsn: int | None) -> str:
    return "none" if lsn is None else lsn_text(lsn)
