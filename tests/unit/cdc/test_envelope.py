"""Tests that Debezium's bytes are decoded into typed changes, or refused with a reason."""

from typing import Any

import msgspec
import pytest

from app.cdc.envelope import decode, decode_key, integer, primary_key
from app.cdc.unavailable import resolve
from app.errors import PoisonRecordError
from tests.support.bank.cdc import COMMIT_US, envelope, json_bytes

ROW = {"customer_id": 1, "name": "Ada"}


@pytest.mark.parametrize("schema", [False, True])
@pytest.mark.parametrize("op", ["r", "c", "u", "d"])
def test_a_change_is_read_with_and_without_schema(op: str, schema: bool) -> None:
    before, after = (ROW, None) if op == "d" else (None, ROW)
    change = decode(envelope("customers", op, before=before, after=after, schema=schema), (), "customers")
    assert change is not None
    assert (change.operation, change.lsn, change.tx_id, change.commit_us) == (op, 100, 7, COMMIT_US)
    row = change.before if op == "d" else change.after
    assert row == {"customer_id": msgspec.Raw(b"1"), "name": msgspec.Raw(b'"Ada"')}


@pytest.mark.parametrize(
    "value",
    [None, b'{"schema":{"type":"struct"},"payload":null}', envelope("customers", "m")],
    ids=["tombstone", "tombstone with schema", "logical message"],
)
def test_messages_that_change_no_row_are_ignored(value: bytes | None) -> None:
    assert decode(value, (), "customers") is None


def test_every_digit_of_a_number_survives() -> None:
    text = b'{"op":"c","after":{"a":18446744073709551617,"b":1.10,"c":"9999999999999999.99"},"source":{"table":"t","ts_us":1}}'
    change = decode(text, (), "t")
    assert change is not None
    assert change.after is not None
    assert {name: bytes(value) for name, value in change.after.items()} == {
        "a": b"18446744073709551617",
        "b": b"1.10",
        "c": b'"9999999999999999.99"',
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"\x00\x00\x00\x00\x01\x02Ada", "not_json"),
        (b"\xef\xbb\xbf" + envelope("customers", "c", after=ROW), "not_json"),
        (envelope("customers", "c", after=ROW) + b"x", "not_json"),
        (envelope("customers", "c", after={"customer_id": 1, "name": "x"}).replace(b'"x"', b'"\xff"'), "not_json"),
        (b"[" * 100_000 + b"]" * 100_000, "not_an_envelope"),
        (
            b'{"op":"c","after":{"x":'
            + b"[" * 100_000
            + b"]" * 100_000
            + b'},"source":{"table":"customers","ts_us":1}}',
            "not_json",
        ),
        (b'{"op":NaN}', "not_json"),
        (json_bytes(ROW), "not_an_envelope"),
        (b"[1,2]", "not_an_envelope"),
        (b'"c"', "not_an_envelope"),
        (envelope("customers", "x", after=ROW), "unknown_operation"),
        (envelope("accounts", "c", after=ROW), "wrong_table"),
        (envelope("customers", "c"), "no_row"),
        (envelope("customers", "u", before=ROW), "no_row"),
        (envelope("customers", "c", after=ROW, lsn="abc"), "not_an_envelope"),
        (envelope("customers", "c", after=ROW, commit_us=None), "no_commit_time"),
        (envelope("customers", "c", after=ROW, commit_us=COMMIT_US * 1_000_000), "no_commit_time"),
    ],
)
def test_unreadable_changes_are_refused_with_a_reason(value: bytes, reason: str) -> None:
    with pytest.raises(PoisonRecordError) as refused:
        decode(value, (), "customers")
    assert refused.value.reason == reason


@pytest.mark.parametrize("lsn", [None, -(2**63)])
def test_an_invalid_log_position_is_unknown(lsn: int | None) -> None:
    change = decode(envelope("customers", "c", after=ROW, lsn=lsn), (), "customers")
    assert change is not None
    assert change.lsn is None


def test_a_key_change_names_the_other_key() -> None:
    new = decode(envelope("customers", "c", after=ROW), (("__debezium.oldkey", b'{"customer_id":3}'),), "customers")
    old = decode(
        envelope("customers", "d", before=ROW),
        (("__debezium.newkey", b'{"schema":{"type":"struct"},"payload":{"customer_id":100}}'),),
        "customers",
    )
    assert new is not None
    assert old is not None
    assert (new.previous_key, old.next_key) == ({"customer_id": 3}, {"customer_id": 100})


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "no_key"),
        (b"{}", "no_key"),
        (b'{"customer_id":2}', "key_mismatch"),
        (b'{"customer_id":', "not_json"),
        (b"7", "not_an_envelope"),
    ],
)
def test_a_key_unlike_its_row_is_refused(key: bytes | None, reason: str) -> None:
    change = decode(envelope("customers", "c", after=ROW), (), "customers")
    assert change is not None
    with pytest.raises(PoisonRecordError) as refused:
        primary_key(change, key, {"customer_id": "integer"})
    assert refused.value.reason == reason


def test_a_key_is_read_with_and_without_schema() -> None:
    assert decode_key(b'{"customer_id":1}') == decode_key(b'{"schema":{},"payload":{"customer_id":1}}')


@pytest.mark.parametrize(
    "value", [b"18446744073709551617", b'"1"', b"1.5", b"null", b"-9223372036854775809", b"9" * 5000]
)
def test_a_key_must_be_a_64_bit_integer(value: bytes) -> None:
    with pytest.raises(PoisonRecordError) as refused:
        integer(msgspec.Raw(value), "customer_id")
    assert refused.value.reason == "bad_key"


PLACEHOLDER = '"__debezium_unavailable_value"'


@pytest.mark.parametrize(
    "placeholder",
    [PLACEHOLDER, '"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="', '["__debezium_unavailable_value"]'],
    ids=["text", "bytes", "array"],
)
@pytest.mark.parametrize("where", ["before", "known"])
def test_an_unchanged_large_value_keeps_what_it_was(placeholder: str, where: str) -> None:
    row = {"a": msgspec.Raw(b"1"), "notes": msgspec.Raw(placeholder.encode())}
    full: dict[str, Any] = {"notes": msgspec.Raw(b'"long"')}
    resolved = resolve(row, full if where == "before" else None, full if where == "known" else None)
    assert resolved == {"a": msgspec.Raw(b"1"), "notes": msgspec.Raw(b'"long"')}


def test_an_unchanged_large_value_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PoisonRecordError) as refused:
        resolve({"notes": msgspec.Raw(PLACEHOLDER.encode())}, {"a": msgspec.Raw(b"1")}, None)
    assert refused.value.reason == "unavailable_value"
