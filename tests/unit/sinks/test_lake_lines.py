"""Tests that a line contains every byte of its record, and nothing that could stop a load."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks import lines
from sinks.lines import embedded, line_encoder
from tests.support.warehouse.sinks import TOPIC, Record

AS_THEY_ARE = [
    b'{"amount":12.50,"note":"\xc3\xa9"}',
    b"[1, 2.0, -3e5, true, null]",
    b'"text"',
    b"0",
    b"-0.0",
    b'{"n":99999999999999999999999999999999999999}',
    b'{"price":0.10000000000000000000}',
    b'{"e":1.7976931348623157e308}',
    b'{"a":"\\ud83d\\ude00"}',
    b'{"a":"\\\\u0000"}',
    b'{"a":{"a":1},"b":[{"a":1},{"a":2}]}',
    b"[" * 100 + b"]" * 100,
    b'{"' + b"{" * 1000 + b'":"' + b"[" * 1000 + b'"}',
]
WRAPPED = [
    (b"", "nothing"),
    (b"text", "no JSON"),
    (b"null", "would look like a tombstone"),
    (b" null ", "the same with spaces"),
    (b' {"a":1}', "a space in front"),
    (b'{"a":1}\t', "a tab behind"),
    (b'{"a":NaN}', "NaN"),
    (b'{"a":-Infinity}', "infinity"),
    (b'{"a":1e400}', "beyond a double"),
    (b'{"a":-1e400}', "beyond a double"),
    (b'{"a":1e-400}', "would become zero"),
    (b'{"a":1.2345678901234567890e5}', "would be rounded"),
    (b'{"a":' + b"9" * 39 + b"}", "more digits than a NUMBER"),
    (b'{"a":0.' + b"1" * 39 + b"}", "more digits than a NUMBER"),
    (b'{"a":' + b"1" * 5000 + b"}", "a number of 5,000 digits"),
    (b'{"a":1,"a":2}', "a name twice"),
    (b'{"a":1,"\\u0061":2}', "a name twice, once escaped"),
    (b'{"x":[{"a":1,"a":1}]}', "a name twice, deep inside"),
    (b'{"a":"\\ud800"}', "a lone surrogate"),
    (b'{"\\udfff":1}', "a lone surrogate as a name"),
    (b'{"a":"\xed\xa0\x80"}', "a surrogate in UTF-8"),
    (b'{"a":"\xff"}', "no UTF-8"),
    (b'{"a":"\\u0000"}', "NUL"),
    (b'\xef\xbb\xbf{"a":1}', "a byte order mark"),
    (b'{"a":1}\n', "a line break"),
    (b'{"a":\r1}', "a carriage return"),
    (b'{"a":"\x01"}', "a control character"),
    (b'{"a":1}{"b":2}', "two values"),
    (b'{"a":1}garbage', "trailing garbage"),
    (b'{"a":01}', "a leading zero"),
    (b"{'a':1}", "single quotes"),
    (b'{"a":1,}', "a trailing comma"),
    (b"[" * 101 + b"]" * 101, "too deep"),
    (b"[" * 100_000 + b"]" * 100_000, "much too deep"),
    (b"\x00\x00\x00\x00\x01Avro", "Avro"),
    ('{"a":1}'.encode("utf-16"), "UTF-16"),
]


@pytest.mark.parametrize("raw", AS_THEY_ARE)
def test_valid_json_is_in_the_line_unchanged(raw: bytes) -> None:
    assert embedded(raw) == raw
    line = line_encoder(TOPIC, 0)(Record(1, raw))
    assert raw in line
    assert "value_base64" not in json.loads(line)


@pytest.mark.parametrize(("raw", "reason"), WRAPPED, ids=[reason for _, reason in WRAPPED])
def test_values_that_a_parser_could_refuse_or_change_are_wrapped(raw: bytes, reason: str) -> None:
    assert embedded(raw) is None, reason
    line = line_encoder(TOPIC, 0)(Record(1, raw, key=raw))
    assert line.count(b"\n") == 1
    assert json.loads(line)["value"] is None


def test_a_tombstone_is_not_an_empty_value_nor_the_text_null() -> None:
    values = [lines.read(line_encoder(TOPIC, 0)(Record(1, value))).value_bytes() for value in (None, b"", b"null")]
    assert values == [None, b"", b"null"]


@given(
    value=st.none()
    | st.binary()
    | st.from_type(type(None)).map(lambda _: b"null")
    | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists).map(
        lambda found: json.dumps(found).encode()
    )
    | st.dictionaries(st.text(), st.text() | st.floats()).map(lambda found: json.dumps(found).encode()),
    key=st.none() | st.binary(max_size=20),
)
def test_every_byte_of_a_record_is_restored(value: bytes | None, key: bytes | None) -> None:
    line = line_encoder(TOPIC, 3)(Record(7, value, key, partition=3))
    read = lines.read(line)
    assert (read.topic, read.partition, read.offset, read.ts) == (TOPIC, 3, 7, 1_700_000_000_000)
    assert (read.key_bytes(), read.value_bytes()) == (key, value)
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=pytest.fail)


def test_the_line_of_a_large_record_names_the_object_with_the_whole_record() -> None:
    record = Record(5, b"x" * lines.MAX_INLINE_BYTES, b"k")
    assert lines.is_large(record)
    assert not lines.is_large(Record(5, b"x" * (lines.MAX_INLINE_BYTES - 1), b""))
    line, content = lines.large_record_line(record, "large/here")
    read, whole = lines.read(line), lines.read(content)
    assert read.large_object == "large/here"
    assert len(line) < 300
    assert (whole.key_bytes(), whole.value_bytes(), whole.offset) == (b"k", record.value, 5)
