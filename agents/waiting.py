"""Keeps records that arrive before their account in state, in order, up to a maximum number and a maximum age."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agents import metrics
from app.engine.unit_of_work import InputRecord, UnitOfWork
from app.errors import PoisonRecordError
from tables.encoding import after_prefix, decode_number_key, number_key
from tables.waiting import WAITING, WaitingRecord

REASON: Final = "unknown_account"
STAGE: Final = "join"
_COUNT: Final = "waiting"


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum number of waiting records in one partition, and their maximum age (by the record's timestamp)."""

    max_records: int
    max_age_s: int


def hold(account_id: int, record: InputRecord, limits: Limits, unit: UnitOfWork) -> None:
    """Store a record until its account arrives. Raises PoisonRecordError `unknown_account` when the maximum number already waits."""
    count = _count(unit)
    if count >= limits.max_records:
        raise PoisonRecordError(
            f"account {account_id} is not known, and {count} records of this partition wait for theirs already "
            "(BANKSTREAM_WAITING_MAX_RECORDS). Redrive it when the account has come",
            reason=REASON,
            stage=STAGE,
        )
    kept = WaitingRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers)
    )
    unit.table(WAITING).put((account_id, record.partition, record.offset), kept)
    _set_count(count + 1, unit)


def has_waiting(account_id: int, unit: UnitOfWork) -> bool:
    """Returns whether a record waits for this account."""
    return _count(unit) > 0 and next(iter(_of(account_id, unit)), None) is not None


def take(account_id: int, unit: UnitOfWork) -> list[WaitingRecord]:
    """Removes the records that wait for this account, and returns them in order."""
    if _count(unit) == 0:
        return []
    taken = list(_of(account_id, unit))
    _remove(account_id, taken, unit)
    return taken


def expire(limits: Limits, unit: UnitOfWork) -> None:
    """Write the records that are older than the maximum age to the dead letters, and remove them."""
    if _count(unit) == 0:
        return
    oldest_ms = unit.now_us // 1000 - limits.max_age_s * 1000
    late: dict[int, list[WaitingRecord]] = {}
    for key, record in unit.table(WAITING).scan():
        if record.timestamp < oldest_ms:
            account_id, *_ = decode_number_key(key)
            late.setdefault(account_id, []).append(record)
    for account_id, records in late.items():
        _remove(account_id, records, unit)
        late_account = PoisonRecordError(
            f"account {account_id} did not come within {limits.max_age_s} s (BANKSTREAM_WAITING_MAX_AGE_S). "
            "Redrive the record when it has",
            reason=REASON,
            stage=STAGE,
        )
        for record in records:
            unit.dead_letter(record, late_account)


def _of(account_id: int, unit: UnitOfWork) -> Iterable[WaitingRecord]:
    prefix = number_key(account_id)
    return (record for _, record in unit.table(WAITING).scan(prefix, after_prefix(prefix)))


def _remove(account_id: int, records: list[WaitingRecord], unit: UnitOfWork) -> None:
    for record in records:
        unit.table(WAITING).delete((account_id, record.partition, record.offset))
    _set_count(_count(unit) - len(records), unit)


def _count(unit: UnitOfWork) -> int:
    count = unit.cache.get(_COUNT)
    if count is None:
        count = sum(1 for _ in unit.table(WAITING).scan())
        _set_count(count, unit)
    return int(count)


def _set_count(count: int, unit: UnitOfWork) -> None:
    unit.cache[_COUNT] = count
    metrics.WAITING.labels(unit.partition).set(count)
