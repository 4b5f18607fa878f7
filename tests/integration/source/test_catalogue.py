"""What PostgreSQL's catalogue tells of columns and keys: types with their modifiers, domains, and keys in their own order."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from app.config.settings import SourceSettings
from app.domain.captured import CapturedTable
from app.local.stack.stack import Stack
from app.operations.dbt.columns import MONEY, warehouse_type
from app.postgres.catalogue import SourceTable, source_tables
from app.proof.reconcile.report import ReconcileError
from app.proof.reconcile.source import SourceReader, Table
from tests.support.machine.clients import as_admin, drop_database
from tests.support.machine.stack import settings_of

pytestmark = pytest.mark.integration

STATEMENTS = """
CREATE DOMAIN share AS numeric(9, 6);
CREATE DOMAIN small_share AS share CHECK (VALUE < 1);
CREATE DOMAIN any_number AS numeric;
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN best_price AS price;
CREATE DOMAIN number AS bigint;
CREATE DOMAIN loan_number AS number CHECK (VALUE > 0);
CREATE DOMAIN branch_code AS char(6);
CREATE DOMAIN tags AS text[];
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE loans (
    principal numeric(18, 2), rate share, small_rate small_share, factor any_number, asked price, paid best_price,
    number loan_number, branch branch_code, old text, whole numeric(10), tens numeric(5, -1), exact numeric,
    name varchar(20), code char(2), free bpchar, signed_at timestamptz(3), local_at timestamp, due date, open boolean,
    terms jsonb, words tags, kind mood, twice numeric(18, 2) GENERATED ALWAYS AS (principal * 2) STORED,
    PRIMARY KEY (number, branch) INCLUDE (due)
);
ALTER TABLE loans DROP COLUMN old;
CREATE TABLE "order" (id int PRIMARY KEY);
CREATE TABLE keyless (id int);
CREATE TABLE parts (id int, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE VIEW loans_view AS SELECT * FROM loans;
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.hidden (id int PRIMARY KEY)
"""
TYPES = {
    "principal": ("numeric(18,2)", "numeric", 2),
    "rate": ("numeric(9,6)", "numeric", 6),
    "small_rate": ("numeric(9,6)", "numeric", 6),
    "factor": ("numeric", "numeric", None),
    "asked": ("numeric(12,2)", "numeric", 2),
    "paid": ("numeric(12,2)", "numeric", 2),
    "number": ("bigint", "bigint", None),
    "branch": ("character(6)", "character", None),
    "whole": ("numeric(10,0)", "numeric", 0),
    "tens": ("numeric(5,-1)", "numeric", -1),
    "exact": ("numeric", "numeric", None),
    "name": ("character varying(20)", "character varying", None),
    "code": ("character(2)", "character", None),
    "free": ("bpchar", "character", None),
    "signed_at": ("timestamp(3) with time zone", "timestamp with time zone", None),
    "local_at": ("timestamp without time zone", "timestamp without time zone", None),
    "due": ("date", "date", None),
    "open": ("boolean", "boolean", None),
    "terms": ("jsonb", "jsonb", None),
    "words": ("text[]", "text[]", None),
    "kind": ("mood", "mood", None),
}
"""The columns of loans in their order: type, type without its modifier, and scale."""
LOANS = CapturedTable("loans", {"number": "integer", "branch": "text"})


@pytest.fixture(scope="module")
def connection(postgres_stack: Stack) -> Iterator[psycopg.Connection]:
    settings = settings_of(postgres_stack, SourceSettings, dbname=f"catalogue_{uuid4().hex[:8]}")
    with as_admin(settings, dbname="postgres") as admin:
        admin.execute(f"CREATE DATABASE {settings.dbname}".encode())
    with as_admin(settings) as session:
        for statement in STATEMENTS.split(";\n"):
            session.execute(statement.encode())
        yield session
    drop_database(settings)


@pytest.fixture(scope="module")
def loans(connection: psycopg.Connection) -> SourceTable:
    return source_tables(connection, ["loans"])["loans"]


def reconciled(connection: psycopg.Connection, declared: CapturedTable) -> Table:
    return SourceReader(connection).table(declared, "bank.toml")


def test_a_column_has_the_type_at_the_end_of_its_chain_of_domains(loans: SourceTable) -> None:
    assert {column.name: (column.type, column.plain_type, column.scale) for column in loans.columns} == TYPES
    assert [column.name for column in loans.columns] == [*TYPES], (
        "the source's order, without dropped and generated ones"
    )


def test_the_plain_type_is_what_postgresql_writes_for_the_type_without_a_modifier(
    connection: psycopg.Connection, loans: SourceTable
) -> None:
    domains = {"rate", "small_rate", "factor", "asked", "paid", "number", "branch", "words"}
    written = connection.execute(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'loans'::regclass AND attnum > 0 "
        "AND NOT attisdropped AND attgenerated = ''"
    ).fetchall()
    plain = {column.name: column.plain_type for column in loans.columns if column.name not in domains}
    assert plain == {name: type_name for name, type_name in written if name not in domains}


def test_a_composite_key_has_its_own_order_and_no_included_column(connection: psycopg.Connection) -> None:
    found = source_tables(connection, ["loans", "order", "keyless", "parts"])
    assert {name: [*table.key.items()] for name, table in found.items()} == {
        "loans": [("number", "integer"), ("branch", "text")],
        "order": [("id", "integer")],
        "keyless": [],
        "parts": [("day", "text"), ("id", "integer")],
    }


@pytest.mark.parametrize("name", ["loans_view", "hidden", "nowhere", "Loans", "loans_pkey"])
def test_only_a_table_of_schema_public_is_found(connection: psycopg.Connection, name: str) -> None:
    assert source_tables(connection, [name]) == {}
    with pytest.raises(ReconcileError, match=rf"PostgreSQL has no table public\.{name}, which bank\.toml declares"):
        reconciled(connection, CapturedTable(name, {"number": "integer"}))


def test_models_and_reconcile_agree_on_what_is_money(connection: psycopg.Connection, loans: SourceTable) -> None:
    money = {"principal", "asked", "paid"}
    assert {column.name for column in loans.columns if warehouse_type(column.type) is MONEY} == money
    assert {column.name for column in reconciled(connection, LOANS).columns if column.money} == money


def test_reconcile_compares_by_the_plain_types_and_sorts_in_the_declared_order(connection: psycopg.Connection) -> None:
    table = reconciled(connection, CapturedTable("loans", {"branch": "text", "number": "integer"}))
    assert {column.name: column.type_name for column in table.columns} == {
        name: plain for name, (_, plain, _) in TYPES.items()
    }
    places = [*TYPES]
    assert [(key.name, key.kind, key.type_name, key.scale, key.place) for key in table.key] == [
        ("branch", "text", "character", None, places.index("branch")),
        ("number", "integer", "bigint", None, places.index("number")),
    ]
