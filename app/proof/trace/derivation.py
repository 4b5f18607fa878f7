"""Checks a derived record against the change that it names as its source. Pure."""

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
"""The prefix of the topics of versions; the table's name follows."""
CLOSED_BY: Final = {"superseded": "cur", "deleted": "d", "key_changed": "d", "truncated": "t", "vanished": "rc"}
"""The operations that can close a version, by reason."""


class Opened(msgspec.Struct, frozen=True, tag_field="op", tag="open"):
    """An open record with its attributes as raw JSON, digit by digit."""

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
    """Returns whether a topic has raw changes, at which a trace ends."""
    return topic.startswith(CAPTURED)


def read_derived(topic: str, value: bytes) -> Derived:
    """Decodes a record of a derived topic. ValueError if it is not one."""
    try:
        kind = Opened | Scd2Close if topic.startswith(VERSIONS) else _TYPES[topic]
        found: Derived = msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"this is not a record of {topic}: {error}") from None
    return found


def read_change(position: RecordPosition, value: bytes | None) -> RowChange:
    """Decodes the change in a raw record. ValueError if it has none."""
    try:
        change = decode(value, (), position.topic.removeprefix(CAPTURED))
    except PoisonRecordError as error:
        raise ValueError(str(error)) from None
    if change is None:
        raise ValueError("it carries no row change")
    return change


def origin(record: Derived) -> RecordPosition:
    """Returns the source position that the record names."""
    if isinstance(record, DeadLetter):
        return RecordPosition(record.topic, record.partition, record.offset)
    return RecordPosition(record.source.topic, record.source.partition, record.source.offset)


def evidence(record: Derived) -> list[RecordPosition]:
    """Returns the other records that an alert names as evidence."""
    if not isinstance(record, AlertRecord):
        return []
    return [
        place
        for it in record.evidence
        if (place := RecordPosition(it.topic, it.partition, it.offset)) != origin(record)
    ]


def checks(topic: str, record: Derived, change: RowChange) -> list[Check]:
    """Checks a derived record against the change that it names."""
    if isinstance(record, DeadLetter):
        raise TypeError("a rejected record is compared by its bytes")
    found = [_source(record.source, change)]
    if isinstance(record, Opened):
        found += _opened(topic.removeprefix(VERSIONS), record, change)
    elif isinstance(record, Scd2Close):
        found += _closed(record, change)
    else:
        found += _about_transaction(record, change)
    return found


def refused(record: DeadLetter, value: bytes | None) -> Check:
    """Checks a dead letter against the record that it contains."""
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
            "version_id is the expected function of table, key and source position",
            f"version_id is {record.version_id}, but table, key and source position give {made}",
        )
    ]
    if change.after is None:
        return [*found, differs(f"op {change.operation!r} leaves no row, so it cannot open a version")]
    after = _whole(change)
    wrong = columns_differing(after, {name: value for name, value in record.attributes.items() if name in after})
    wrong += sorted(record.attributes.keys() - change.after.keys())
    found.append(
        judged(
            not wrong,
            f"all {len(after)} attributes equal the row after the change",
            f"attributes that differ from the row after the change: {', '.join(wrong)}",
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
        return [found, noted(f"valid_to is {record.valid_to}: the time of the snapshot that did not have the row")]
    return [found, _instant("valid_to", record.valid_to, change)]


def _about_transaction(record: TransactionRecord | VelocityRecord | AlertRecord, change: RowChange) -> list[Check]:
    row = change.after if change.after is not None else change.before
    if row is None:
        return [differs(f"op {change.operation!r} carries no transaction")]
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
            f"{len(plain.keys() & said.keys())} columns equal those of the changed row",
            f"columns that differ from those of the changed row: {', '.join(sorted(wrong))}",
        )
    ]
    if isinstance(record, AlertRecord):
        made = alert_id(record.rule, record.customer_id, record.account_id, record.transaction_id)
        found.append(
            judged(
                made == record.alert_id,
                "alert_id is the expected function of rule and transaction",
                f"alert_id is {record.alert_id}, but rule and transaction give {made}",
            )
        )
    return found


def _same_text(said: Any, column: Any) -> bool:
    """Returns whether a field of a record equals the column that it was taken from; times may have another format."""
    if said is None or column is None:
        return said is column
    return str(said) == str(column) or canonical.instant(said) == canonical.instant(column)


def _instant(name: str, text: str, change: RowChange) -> Check:
    committed = format_us(change.commit_us)
    if text > committed:
        return noted(
            f"{name} is {text}, raised above the commit time {committed}: the clock of the source ran backwards"
        )
    return judged(
        text == committed, f"{name} is the commit time", f"{name} is {text}, before the commit at {committed}"
    )


def _whole(change: RowChange) -> Row:
    """Returns the row after a change, without columns that the log does not contain."""
    assert change.after is not None
    if change.operation != "u":
        return change.after
    before = change.before or {}
    kept = {name: before.get(name, value) if is_placeholder(value) else value for name, value in change.after.items()}
    return {name: value for name, value in kept.items() if not is_placeholder(value)}


def _lsn(lsn: int | None) -> str:
    return "none" if lsn is None else lsn_text(lsn)
