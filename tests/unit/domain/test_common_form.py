"""A record in the common form: what of it the library reads, and what no transaction can have."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from app.domain.common_form import common_form
from app.domain.records import TransactionRecord
from tests.support.streams.velocity import transaction


def written(record: TransactionRecord) -> TransactionRecord:
    return msgspec.json.decode(common_form(record), type=TransactionRecord)


def test_numbers_and_instants_have_one_form_and_what_no_window_needs_is_left_out() -> None:
    record = replace(
        transaction(1, amount="7.5", counterparty="A", country="DE"), description="x", booked_at="2026-03-01T13:00:00+01:00",
        source=replace(transaction(1).source, commit_time="2026-03-01T12:00:00Z"),
    )  # fmt: skip
    found = written(record)
    assert (found.amount, found.counterparty_account, found.country_code) == ("7.50", "A", "DE")
    assert (found.booked_at, found.source.commit_time) == ("2026-03-01T12:00:00.000000Z",) * 2
    assert (found.channel, found.description, found.account) == (None, None, {})
    assert common_form(found) == common_form(record)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("booked_at", "infinity", "^booked_at 'infinity' is not an instant"),
        ("amount", "1.234", r"^amount '1\.234' has more than 2 digits after the point$"),
        ("amount", "NaN", "^amount 'NaN' is not an amount of money$"),
        ("amount", "-0.01", "^amount '-0.01' is negative"),
        ("transaction_id", 1 << 64, "^transaction_id 18446744073709551616 does not fit in 64 bits$"),
        ("account_id", -(1 << 63) - 1, "^account_id -9223372036854775809 does not fit in 64 bits$"),
        ("customer_id", 1 << 63, "^customer_id 9223372036854775808 does not fit in 64 bits$"),
    ],
)
def test_what_cannot_be_placed_or_added_up_is_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        common_form(replace(transaction(1), **{field: value}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lsn", 1 << 63, "does not fit in 64 bits"),
        ("lsn", -1, "is negative"),
        ("offset", 1 << 63, "does not fit in 64 bits"),
        ("offset", -1, "is negative"),
        ("partition", 1 << 31, "does not fit in 32 bits"),
        ("partition", -1, "is negative"),
        ("tx_id", 1 << 63, "does not fit in 64 bits"),
        ("tx_id", -(1 << 63) - 1, "does not fit in 64 bits"),
    ],
)
def test_a_place_that_is_none_is_refused_by_name(name: str, value: int, message: str) -> None:
    record = transaction(1)
    with pytest.raises(ValueError, match=rf"^source\.{name} {value} {message}$"):
        common_form(replace(record, source=replace(record.source, **{name: value})))


@pytest.mark.parametrize(
    "place", [{"lsn": (1 << 63) - 1}, {"lsn": None}, {"offset": 0}, {"partition": (1 << 31) - 1}, {"tx_id": -(1 << 63)}]
)
def test_the_ends_of_what_a_place_can_be_are_kept(place: dict[str, Any]) -> None:
    record = transaction(1)
    source = replace(record.source, **place)
    assert written(replace(record, source=source)).source == source


def test_a_commit_time_that_is_no_instant_is_refused_by_name() -> None:
    record = transaction(1)
    with pytest.raises(ValueError, match=r"^source\.commit_time 'soon' is not an instant"):
        common_form(replace(record, source=replace(record.source, commit_time="soon")))
