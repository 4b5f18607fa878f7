"""Writes a transaction record in the common form, the one that the native library reads. Refuses what no transaction can have.

A record of the transactions agent has the common form already. Any other valid record has it once it is decoded and written again with
its numbers and instants in one form. What windows do not depend on is left out.
"""

from typing import Final

from msgspec.structs import replace

from app.domain.money import to_decimal, to_minor
from app.domain.records import TransactionRecord, encode
from app.domain.times import format_us, instant_us

_INT32_MAX: Final = (1 << 31) - 1
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1


def common_form(record: TransactionRecord) -> bytes:
    """Returns the record in the common form. Raises ValueError, naming the field, for an invalid time, amount or number."""
    source = record.source
    for name, number, least, most in (
        ("customer_id", record.customer_id, _INT64_MIN, _INT64_MAX),
        ("account_id", record.account_id, _INT64_MIN, _INT64_MAX),
        ("transaction_id", record.transaction_id, _INT64_MIN, _INT64_MAX),
        ("source.lsn", source.lsn, 0, _INT64_MAX),
        ("source.partition", source.partition, 0, _INT32_MAX),
        ("source.offset", source.offset, 0, _INT64_MAX),
        ("source.tx_id", source.tx_id, _INT64_MIN, _INT64_MAX),
    ):
        if number is not None and not least <= number <= most:
            limit = "is negative" if number < least == 0 else f"does not fit in {32 if most == _INT32_MAX else 64} bits"
            raise ValueError(f"{name} {number} {limit}")
    booked_at = format_us(instant_us("booked_at", record.booked_at))
    try:
        minor = to_minor(record.amount)
    except ValueError as error:
        raise ValueError(f"amount {error}") from None
    if minor < 0:
        raise ValueError(f"amount {record.amount!r} is negative; whether money comes or goes is the transaction's type")
    commit_time = format_us(instant_us("source.commit_time", source.commit_time))
    return encode(
        replace(
            record,
            amount=to_decimal(minor),
            channel=None,
            merchant_id=None,
            merchant_category=None,
            latitude=None,
            longitude=None,
            device_id=None,
            description=None,
            booked_at=booked_at,
            created_at=None,
            account={},
            source=replace(source, commit_time=commit_time),
        )
    )
