"""Values of PostgreSQL and of Debezium in one text form, and two streams of rows walked side by side."""

import json
from base64 import b64encode
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proof.reconcile.canonical import converter, encoded
from app.proof.reconcile.comparing import Row, compare
from app.proof.reconcile.report import MAX_DIFFERENCES, Difference, Sums
from app.proof.reconcile.source import Column, PostgresSnapshot
from app.proof.reconcile.unqueryable_changes import decode_unqueryable
from app.proof.reconcile.warehouse import current_rows
from tests.support.bank.cdc import envelope


@pytest.mark.parametrize(
    ("type_name", "postgres", "debezium"),
    [
        ("numeric", "12.50", "12.50"),
        ("numeric", "9999999999999999.99", "9999999999999999.99"),
        ("numeric", "0.00", "0.00"),
        ("numeric", "1000", "1E+3"),
        ("numeric", "NaN", "NaN"),
        ("numeric", "11.576124", "11.576124"),
        ("bigint", "9223372036854775807", 9223372036854775807),
        ("timestamp with time zone", "2026-11-23 13:17:57.371568+00", "2026-11-23T13:17:57.371568Z"),
        ("timestamp with time zone", "2026-11-23 13:17:57.5+00", "2026-11-23T13:17:57.500000Z"),
        ("timestamp with time zone", "2026-11-23 13:17:00+00", "2026-11-23T13:17:00Z"),
        ("timestamp with time zone", "2026-11-23 13:17:00+00", "2026-11-23T13:17Z"),
        ("timestamp with time zone", "infinity", "infinity"),
        ("date", "1815-12-10", "1815-12-10Z"),
        ("character", "DE ", "DE"),
        ("text", "", ""),
        ("text", 'Zoë \\ "Q" O\'Hara\n', 'Zoë \\ "Q" O\'Hara\n'),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("double precision", "0.1", 0.1),
        ("jsonb", '{"a": 1, "b": [2]}', '{"b":[2],"a":1}'),
    ],
)
def test_one_value_has_one_text_whichever_side_it_comes_from(type_name: str, postgres: str, debezium: Any) -> None:
    convert = converter(type_name)
    assert convert(postgres) == convert(debezium)


@pytest.mark.parametrize(
    ("type_name", "one", "other"),
    [
        ("numeric", "12.50", "12.51"),
        ("numeric", "1", "-1"),
        ("numeric", "10", "1"),
        ("timestamp with time zone", "2026-11-23 13:17:57.371568+00", "2026-11-23T13:17:57.371569Z"),
        ("timestamp with time zone", "2026-11-23 13:17:10+00", "2026-11-23T13:17:01Z"),
        ("date", "1815-12-10", "1815-12-01Z"),
        ("text", "a", "A"),
        ("text", "é", "e\u0301"),
        ("boolean", "true", False),
    ],
)
def test_different_values_have_different_texts(type_name: str, one: str, other: Any) -> None:
    convert = converter(type_name)
    assert convert(one) != convert(other)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**15), max_value=10**15))
def test_money_is_the_same_however_it_is_written(amount: Decimal) -> None:
    convert = converter("numeric")
    assert convert(str(amount)) == convert(format(amount.normalize(), "f")) == convert(str(amount.normalize()))
    assert Decimal(convert(str(amount))) == amount


@given(st.lists(st.lists(st.none() | st.text(max_size=3), min_size=2, max_size=2), min_size=2, max_size=2))
def test_rows_have_equal_bytes_only_if_they_are_equal(rows: list[list[str | None]]) -> None:
    one, other = (tuple(row) for row in rows)
    assert (encoded(one) == encoded(other)) == (one == other)


KEY = Column("id", "bigint", money=False, convert=str)
AMOUNT = Column("amount", "numeric", money=True, convert=str)
Table = dict[int, Row]
tables = st.dictionaries(
    st.integers(1, 12), st.tuples(st.just("k"), st.sampled_from(["0.01", "2", "9999999999999999.99"])), max_size=12
)


@given(tables, tables)
def test_walking_two_tables_finds_what_comparing_two_dictionaries_finds(source: Table, warehouse: Table) -> None:
    report = compare(iter(sorted(source.items())), iter(sorted(warehouse.items())), (KEY, AMOUNT))
    expected = [
        Difference(key, "missing")
        if key not in warehouse
        else Difference(key, "extra")
        if key not in source
        else Difference(key, "different", ("amount",))
        for key in sorted(source.keys() | warehouse.keys())
        if source.get(key) != warehouse.get(key)
    ]
    assert list(report.differences) == expected
    assert (report.source_rows, report.warehouse_rows) == (len(source), len(warehouse))
    assert report.equal == (source == warehouse) == (report.source_hash == report.warehouse_hash)
    totals = [
        format(sum((Decimal(str(row[1])) for row in table.values()), Decimal("0.00")), "f")
        for table in (source, warehouse)
    ]
    assert report.sums == {"amount": Sums(*totals)}


def test_differences_past_the_limit_are_counted_and_not_kept() -> None:
    source = ((key, ("k", "1")) for key in range(MAX_DIFFERENCES + 7))
    report = compare(source, iter(()), (KEY, AMOUNT))
    assert (len(report.differences), report.more_differences) == (MAX_DIFFERENCES, 7)


def test_rows_out_of_order_are_an_error_and_never_a_wrong_answer() -> None:
    rows: list[tuple[int, Row]] = [(2, ("k", "1")), (1, ("k", "1"))]
    with pytest.raises(AssertionError, match="order of their keys"):
        compare(iter(rows), iter(()), (KEY, AMOUNT))


def test_the_question_to_the_warehouse_names_transactions_in_progress_by_their_distance() -> None:
    epoch = 3 << 32
    query = current_rows(
        "BANK", "accounts", PostgresSnapshot("", epoch + 105, (epoch + 99, epoch + 101), 10**15, "0/0")
    )
    assert "not in (-6, -4)" in query
    assert f"- 105 + {1 << 32}" in query


def test_a_record_that_landed_as_base64_keeps_its_time_and_whether_it_ends_a_snapshot() -> None:
    read = [envelope("customers", "r", after={"customer_id": 1}, snapshot=mark) for mark in ("true", "last")]
    landed = [(0, at, 1_000 + at, b64encode(value).decode(), None) for at, value in enumerate(read)]
    found = decode_unqueryable("customers", "customer_id", landed, None).envelopes
    assert [(at, recorded_ms) for _, at, recorded_ms, _ in found] == [(0, 1_000), (1, 1_001)]
    assert [json.loads(text)["source"]["snapshot"] for *_, text in found] == [None, "last"]
