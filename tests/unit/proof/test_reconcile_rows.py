"""Tests the common text form of values of PostgreSQL and Debezium, and the merge comparison of two sorted streams of rows."""

import json
from base64 import b64encode
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.topics import Catalogue
from app.domain.captured import CapturedTable, KeyType
from app.proof.reconcile.canonical import converter, encoded
from app.proof.reconcile.comparing import Row, compare
from app.proof.reconcile.current_rows import current_rows
from app.proof.reconcile.keys import KeyColumn, Order, order_of, reported
from app.proof.reconcile.report import MAX_DIFFERENCES, Difference, ReconcileError, Sums
from app.proof.reconcile.run import Declaration
from app.proof.reconcile.source import Column, PostgresSnapshot, Table
from app.proof.reconcile.unqueryable_changes import UnqueryableChanges, decode_unqueryable
from app.proof.reconcile.warehouse import row_of
from tests.support.bank.cdc import envelope
from tests.support.paths import PROJECT


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
Rows = dict[int, Row]
tables = st.dictionaries(
    st.integers(1, 12), st.tuples(st.just("k"), st.sampled_from(["0.01", "2", "9999999999999999.99"])), max_size=12
)


def in_order(rows: Rows) -> Iterator[tuple[Order, Row]]:
    return (((key,), row) for key, row in sorted(rows.items()))


@given(tables, tables)
def test_comparing_sorted_rows_finds_the_same_differences_as_comparing_dictionaries(
    source: Rows, warehouse: Rows
) -> None:
    report = compare(in_order(source), in_order(warehouse), (KEY, AMOUNT))
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
    report = compare(in_order(dict.fromkeys(range(MAX_DIFFERENCES + 7), ("k", "1"))), iter(()), (KEY, AMOUNT))
    assert (len(report.differences), report.more_differences) == (MAX_DIFFERENCES, 7)


def test_rows_out_of_order_are_an_error_and_never_a_wrong_answer() -> None:
    rows: list[tuple[Order, Row]] = [((2,), ("k", "1")), ((1,), ("k", "1"))]
    with pytest.raises(ReconcileError, match="order of their keys, without duplicates: 1 follows 2"):
        compare(iter(rows), iter(()), (KEY, AMOUNT))


ACCOUNTS = CapturedTable("accounts", {"account_id": "integer"})
ODD = CapturedTable("odd", {'a "b" %s': "text", "n": "text"})
SEES_ALL = PostgresSnapshot("", 1_000, (), 10**15, "0/0")


def table_of(declared: CapturedTable, **types: str) -> Table:
    key = tuple(
        KeyColumn(name, kind, types.get(name, "bigint"), 4, place)
        for place, (name, kind) in enumerate(declared.key.items())
    )
    return Table(declared, (KEY, AMOUNT), key)


def test_the_query_names_transactions_in_progress_by_their_distance() -> None:
    epoch = 3 << 32
    query = current_rows(
        "BANK", table_of(ACCOUNTS), PostgresSnapshot("", epoch + 105, (epoch + 99, epoch + 101), 10**15, "0/0")
    )
    assert "not in (-6, -4)" in query
    assert f"- 105 + {1 << 32}" in query


def test_a_record_that_landed_as_base64_keeps_its_time_and_whether_it_ends_a_snapshot() -> None:
    read = [envelope("customers", "r", after={"customer_id": 1}, snapshot=mark) for mark in ("true", "last")]
    landed = [(0, at, 1_000 + at, b64encode(value).decode(), None) for at, value in enumerate(read)]
    records = decode_unqueryable(CapturedTable("customers", {"customer_id": "integer"}), landed, None).records
    found = [json.loads(record) for record in records]
    assert [(record["offset"], record["ts"]) for record in found] == [(0, 1_000), (1, 1_001)]
    assert [record["value"]["source"]["snapshot"] for record in found] == [None, "last"]


def test_the_query_is_rendered_from_dbts_macros() -> None:
    query = current_rows("BANK", table_of(ACCOUNTS), SEES_ALL, {0: 7, 2: -1})
    for macro in ("current_rows.sql", "captured_changes.sql", "accepted_changes.sql", "landed_records.sql"):
        text = (PROJECT / "dbt" / "macros" / macro).read_text(encoding="utf-8")
        plain = [
            line.strip() for line in text.splitlines() if line.startswith("    ") and not {"{", "#", "%"} & set(line)
        ]
        assert any(len(line) > 20 and line in query for line in plain), macro
    assert "source_offset <= case source_partition when 0 then 7 when 2 then -1 else -1 end" in query
    assert "from BANK.BRONZE.DEAD_LETTERS as landed" in query
    assert "{" not in query


def test_the_query_reads_bound_and_landed_records_and_keeps_names_with_percent_signs() -> None:
    query = current_rows("BANK", table_of(ODD), SEES_ALL, bound=2)
    sent = query % ("'one'", "'two'")
    assert (
        "(select record from BANK.BRONZE.CDC_EVENTS union all select parse_json(column1) as record from values ('one'), ('two'))"
        in sent
    )
    assert 'captured.row_image:"a ""b"" %s"::varchar, null) as key_0' in sent
    assert "%" not in current_rows("BANK", table_of(ACCOUNTS), SEES_ALL, bound=1).replace("(%s)", "")


@pytest.mark.parametrize(
    ("type_name", "texts", "report"),
    [
        ("bigint", ["-10", "-9", "2", "10"], [-10, -9, 2, 10]),
        ("numeric", ["-10.5", "-9", "2.25", "10"], ["-10.5", "-9", "2.25", "10"]),
        ("text", ["", "10", "2", "B", "a", "\uff5e", "\U0001f3e6"], ["", "10", "2", "B", "a", "\uff5e", "\U0001f3e6"]),
    ],
)
def test_keys_are_sorted_by_size_or_by_bytes_and_reported_as_what_they_are(
    type_name: str, texts: list[str], report: list[int | str]
) -> None:
    key = (KeyColumn("k", "integer" if type_name == "bigint" else "text", type_name, None, 0),)
    found = [order_of(key, (text,)) for text in texts]
    assert sorted(found) == found
    assert [reported(order) for order in found] == report


@pytest.mark.parametrize(
    ("kind", "type_name", "order"),
    [
        ("integer", "bigint", 'kept."k"'),
        ("text", "numeric", 'kept."k"'),
        ("text", "character varying", 'kept."k"::text COLLATE "C"'),
        ("text", "date", 'kept."k"::text COLLATE "C"'),
    ],
)
def test_postgresql_sorts_texts_by_their_bytes_whatever_the_collation_of_the_column(
    kind: KeyType, type_name: str, order: str
) -> None:
    """The PostgreSQL of the local stack has no other collations, so no other test covers this."""
    assert KeyColumn("k", kind, type_name, None, 0).source_order.as_string() == order


@pytest.mark.parametrize("text", ["NaN", "abc", "", None])
def test_a_numeric_key_that_is_no_number_is_an_error(text: str | None) -> None:
    with pytest.raises(ReconcileError, match="factor that is not a finite number"):
        order_of((KeyColumn("factor", "text", "numeric", None, 0),), (text,))


def test_the_bank_s_own_tables_come_first_and_the_others_as_they_are_declared() -> None:
    names = ["zeta", "transactions", "alpha", "accounts", "customers"]
    tables = tuple(CapturedTable(name, {"id": "integer"}) for name in names)
    assert [table.name for table in Declaration.of(Catalogue(tables), "bank.toml").tables] == [
        "customers", "accounts", "transactions", "zeta", "alpha",
    ]  # fmt: skip


def test_columns_are_read_as_the_table_declares_that_they_are_written() -> None:
    declared = CapturedTable("fees", {"id": "integer"}, encodings={"fee": "decimal:2"})
    columns = (KEY, Column("fee", "numeric", money=True, convert=converter("numeric")))
    row = row_of(
        '{"id": 7, "fee": "AMc="}', Table(declared, columns, table_of(ACCOUNTS).key), UnqueryableChanges((), {})
    )
    assert row == ("7", "1.99")
