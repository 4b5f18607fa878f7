"""Tests the models that are generated from PostgreSQL's catalogue for captured tables: their contents and their files."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain.captured import CapturedTable
from app.operations.dbt.columns import RESERVED, path, warehouse_names, warehouse_type
from app.operations.dbt.contracts import contracts, landing_source
from app.operations.dbt.silver import Names, SilverTable, sql
from app.operations.provision.models import OWN, SILVER, ModelsError, files, files_of_all, write
from app.postgres.catalogue import SourceColumn, SourceTable, key_kind
from tests.support.catalogue import CATALOGUE
from tests.support.paths import PROJECT
from tests.support.warehouse.bank_columns import bank_columns

MODELS = PROJECT / "dbt/models"
BANK = {table.name: table for table in CATALOGUE.tables}
LOANS = CapturedTable("loans", {"branch": "text", "number": "integer"})
COLUMNS = (
    SourceColumn("branch", "text"), SourceColumn("number", "bigint"), SourceColumn("principal", "numeric(18,2)"),
    SourceColumn("rate", "numeric(9,6)"), SourceColumn("due", "date"), SourceColumn("signed_at", "timestamp with time zone"),
    SourceColumn("open", "boolean"), SourceColumn("score", "double precision"), SourceColumn("terms", "jsonb"),
)  # fmt: skip


def loaded(text: str) -> Any:
    """The first model of a YAML file."""
    return yaml.safe_load(text)["models"][0]


def arguments_of(model: Any, name: str) -> list[Any]:
    return [test[name]["arguments"] for test in model["data_tests"] if name in test]


# the bank's own tables


@pytest.mark.parametrize("name", ["customers", "accounts", "transactions"])
def test_the_sql_of_the_banks_own_models_equals_the_generated_sql(name: str) -> None:
    made = sql(SilverTable.of(BANK[name], bank_columns(name)))
    assert made == {model: (MODELS / f"silver/{model}.sql").read_text(encoding="utf-8") for model in made}
    assert len(made) == (2 if name == "transactions" else 3)


@pytest.mark.parametrize("name", ["customers", "accounts", "transactions"])
def test_the_contracts_of_the_banks_own_models_have_the_generated_columns_and_types(name: str) -> None:
    made = contracts(SilverTable.of(BANK[name], bank_columns(name)))
    for model, text in made.items():
        written = loaded((MODELS / f"silver/{model}.yml").read_text(encoding="utf-8"))
        types = [(column["name"], column["data_type"]) for column in loaded(text)["columns"]]
        assert types == [(column["name"], column["data_type"]) for column in written["columns"]]
        for test in ("unique_together", "closes_an_open_version"):
            ours = [found for found in arguments_of(loaded(text), test) if model not in BANK]
            assert ours == arguments_of(written, test)
        never_null = {column for found in arguments_of(written, "never_null") for column in found["columns"]}
        assert {
            column for found in arguments_of(loaded(text), "never_null") for column in found["columns"]
        } <= never_null


def test_no_name_of_the_projects_own_models_can_be_taken() -> None:
    models = {file.stem for file in MODELS.rglob("*.sql")} | {
        file.stem for file in (PROJECT / "dbt/snapshots").iterdir()
    }
    assert models == OWN


# a declared table


def test_the_sql_of_a_declared_table() -> None:
    made = sql(SilverTable.of(LOANS, COLUMNS))
    assert (
        made["loans_changes"]
        == """{{ config(materialized='incremental', incremental_strategy='append', on_schema_change='fail') }}

with changes as (
    {{ captured_changes('loans', {'branch': 'text', 'number': 'integer'}) | indent(4) }}
)

select
    source_topic,
    source_partition,
    source_offset,
    source_lsn,
    source_tx_id,
    committed_at,
    recorded_at,
    operation,
    ends_snapshot,
    row_image:branch::varchar as branch,
    {{ integer('row_image:number') }} as number,
    {{ money('row_image:principal') }} as principal,
    try_cast(row_image:rate::varchar as number(9, 6)) as rate,
    {{ day('row_image:due') }} as due,
    {{ utc('row_image:signed_at') }} as signed_at,
    try_cast(row_image:open::varchar as boolean) as open,
    try_cast(row_image:score::varchar as float) as score,
    row_image:terms::varchar as terms
from changes
"""
    )
    assert "    {{ current_rows(ref('loans_changes'), 'branch, number') | indent(4) }}\n" in made["loans"]
    assert made["loans_version_records"].endswith(
        "\n\n{{ version_records('scd2_loans', 'bank.scd2.loans', {'branch': 'text', 'number': 'integer'}) }}\n"
    )


def test_the_contract_of_a_declared_table() -> None:
    made = {name: loaded(text) for name, text in contracts(SilverTable.of(LOANS, COLUMNS)).items()}
    current = made["loans"]
    assert [(column["name"], column["data_type"]) for column in current["columns"]][:9] == [
        ("branch", "varchar"), ("number", "number(38,0)"), ("principal", "number(18,2)"), ("rate", "number(9,6)"), ("due", "date"),
        ("signed_at", "timestamp_ntz"), ("open", "boolean"), ("score", "float"), ("terms", "varchar"),
    ]  # fmt: skip
    assert arguments_of(current, "unique_together") == [{"columns": ["branch", "number"]}]
    assert arguments_of(current, "never_null")[0]["columns"][:3] == ["branch", "number", "source_topic"]
    kinds = {"branch": "text", "number": "integer"}
    changes = made["loans_changes"]
    assert arguments_of(changes, "loaded_completely")[0]["key"] == kinds
    assert [found["keys"] for found in arguments_of(changes, "refused_is_a_dead_letter")] == [
        {"bank.public.loans": kinds}
    ] * 2
    records = made["loans_version_records"]
    assert arguments_of(records, "closes_an_open_version") == [{"key": "branch, number"}]
    assert all(column["description"] and column["data_type"] for model in made.values() for column in model["columns"])
    source = yaml.safe_load(landing_source(LOANS))["sources"][0]
    assert (source["name"], source["tables"][0]["name"]) == ("bronze", "scd2_loans")


def test_a_table_without_versions_has_no_version_records_and_no_streams_dead_letters() -> None:
    rates = CapturedTable("rates", {"currency": "text"}, versions=False)
    found = SourceTable((SourceColumn("currency", "text"),), {"currency": "text"})
    made = files(rates, found)
    assert [str(name) for name in made] == [
        f"models/silver/{name}" for name in ("rates_changes.sql", "rates.sql", "rates_changes.yml", "rates.yml")
    ]
    assert "refused_is_a_dead_letter" not in made[SILVER / "rates_changes.yml"]
    assert "captured_changes('rates', {'currency': 'text'})" in made[SILVER / "rates_changes.sql"]
    assert "current_rows(ref('rates_changes'), 'currency')" in made[SILVER / "rates.sql"]


def test_a_partial_snapshot_is_not_read_as_complete() -> None:
    whole = sql(SilverTable.of(LOANS, COLUMNS))["loans_changes"]
    partial = sql(SilverTable.of(replace(LOANS, whole_snapshots=False), COLUMNS))["loans_changes"]
    assert "    ends_snapshot,\n" in whole
    assert partial == whole.replace("    ends_snapshot,\n", "    false as ends_snapshot,\n")


@pytest.mark.parametrize(
    ("source_type", "data_type", "read"),
    [
        ("smallint", "number(38,0)", "{{ integer('r:c') }}"),
        ("integer", "number(38,0)", "{{ integer('r:c') }}"),
        ("bigint", "number(38,0)", "{{ integer('r:c') }}"),
        ("oid", "number(38,0)", "{{ integer('r:c') }}"),
        ("numeric(18,2)", "number(18,2)", "{{ money('r:c') }}"),
        ("numeric(12,2)", "number(18,2)", "{{ money('r:c') }}"),
        ("numeric(19,2)", "number(19,2)", "try_cast(r:c::varchar as number(19, 2))"),
        ("numeric(9,6)", "number(9,6)", "try_cast(r:c::varchar as number(9, 6))"),
        ("numeric(10,0)", "number(10,0)", "try_cast(r:c::varchar as number(10, 0))"),
        ("numeric(3,5)", "number(5,5)", "try_cast(r:c::varchar as number(5, 5))"),
        ("numeric(5,-2)", "number(7,0)", "try_cast(r:c::varchar as number(7, 0))"),
        ("numeric(38,4)", "number(38,4)", "try_cast(r:c::varchar as number(38, 4))"),
        ("numeric(39,4)", "varchar", "r:c::varchar"),
        ("numeric", "varchar", "r:c::varchar"),
        ("date", "date", "{{ day('r:c') }}"),
        ("timestamp with time zone", "timestamp_ntz", "{{ utc('r:c') }}"),
        ("timestamp(3) with time zone", "timestamp_ntz", "{{ utc('r:c') }}"),
        ("timestamp without time zone", "timestamp_ntz", "{{ utc('r:c') }}"),
        ("boolean", "boolean", "try_cast(r:c::varchar as boolean)"),
        ("bit(1)", "boolean", "try_cast(r:c::varchar as boolean)"),
        ("double precision", "float", "try_cast(r:c::varchar as float)"),
        ("real", "float", "try_cast(r:c::varchar as float)"),
        *((text, "varchar", "r:c::varchar") for text in (
            "text", "character varying(20)", "character(2)", "uuid", "json", "jsonb", "money", "bytea", "interval",
            "time without time zone",
            "integer[]", "bit(8)", "inet", '"My Type"', "numeric(9,6)[]", "date; drop table x",
        )),
    ],
)  # fmt: skip
def test_each_type_of_postgresql_has_one_of_the_warehouse(source_type: str, data_type: str, read: str) -> None:
    found = warehouse_type(source_type)
    assert (found.data_type, found.read("r:c")) == (data_type, read)


def test_a_key_of_numbers_is_declared_as_integer_and_any_other_as_text() -> None:
    kinds = [key_kind(name) for name in ("integer", "smallint", "bigint", "text", "uuid", "date", "numeric(10,0)")]
    assert kinds == ["integer"] * 3 + ["text"] * 4


# names

HOSTILE = [
    'a"b',
    "a'b",
    "a b",
    "a}}",
    "{{ env_var('X') }}",
    "a; drop table x",
    "a\n- b",
    "größe",
    "",
    "1st",
    "a:b",
    "x" * 256,
]


def test_names_that_need_quotes_have_no_column_and_words_of_sql_have_an_underscore_behind_them() -> None:
    columns = ["id", "order", "operation", "Since", "valid_from", "x", "X", *HOSTILE]
    assert dict(warehouse_names(columns, ["id"])) == {
        "id": "id", "order": "order_", "operation": "operation_", "Since": "Since", "valid_from": "valid_from",
    }  # fmt: skip
    assert warehouse_names(["valid_from"], ["valid_from"]) == {"valid_from": "valid_from_"}
    assert warehouse_names(["order", "order_"], []) == {}
    assert [path("r", name) for name in ("amount", "order", "Since")] == ["r:amount", 'r:"order"', 'r:"Since"']


def test_nothing_in_a_name_or_a_type_gets_into_the_files() -> None:
    columns = (
        *COLUMNS,
        *(SourceColumn(name, name) for name in HOSTILE),
        SourceColumn("kind", "\"}}{{ env_var('X') }}\""),
    )
    silver = SilverTable.of(LOANS, columns)
    assert silver.left_out == tuple(HOSTILE)
    made = {**sql(silver), **contracts(silver)}
    assert not [name for name in HOSTILE if len(name) > 4 and any(name in text for text in made.values())]
    assert not any(re.search(r"env_var|drop", text) for text in made.values())
    assert "row_image:kind::varchar as kind\n" in sql(silver)["loans_changes"]
    assert "because of their names: 12." in contracts(silver)["loans"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_key_that_has_no_name_in_the_warehouse_is_refused(name: str) -> None:
    table, found = CapturedTable("loans", {name: "text"}), SourceTable((SourceColumn(name, "text"),), {name: "text"})
    with pytest.raises(ModelsError, match=r"loans cannot have models: .* of its primary key"):
        files(table, found)


def test_a_column_named_as_one_that_the_models_have_is_read_under_its_own_name() -> None:
    table = CapturedTable("prices", {"valid_from": "text", "no": "integer"})
    silver = SilverTable.of(table, [SourceColumn("valid_from", "date"), SourceColumn("no", "integer")])
    made = sql(silver)
    assert "{{ day('row_image:valid_from') }} as valid_from_,\n" in made["prices_changes"]
    assert "{'valid_from': 'text', 'no': 'integer'}, {'valid_from': 'valid_from_'})" in made["prices_version_records"]
    records = loaded(contracts(silver)["prices_version_records"])
    assert [column["name"] for column in records["columns"]][5:8] == ["valid_from_", "no", "valid_from"]


def test_a_table_whose_name_is_a_word_of_sql_has_current_rows_with_an_underscore() -> None:
    assert "order" in RESERVED
    assert Names.of(CapturedTable("order", {"id": "integer"})).all == (
        "order_changes",
        "order_",
        "order_version_records",
    )


# tables without models


@pytest.mark.parametrize(
    ("table", "found", "says"),
    [
        (LOANS, None, "does not exist in schema public"),
        (LOANS, SourceTable(COLUMNS, {}), "its primary key is none"),
        (LOANS, SourceTable(COLUMNS, {"branch": "text"}), r'primary key is \{ branch = "text" \}'),
        (LOANS, SourceTable(COLUMNS, {"number": "integer", "branch": "text"}), "Correct the declaration"),
        (LOANS, SourceTable(COLUMNS, {"branch": "text", "number": "text"}), 'number = "text"'),
        (CapturedTable("customer", {"id": "text"}), SourceTable((SourceColumn("id", "text"),), {"id": "text"}), "customer_changes"),
        (CapturedTable("dim_account", {"id": "text"}), SourceTable((SourceColumn("id", "text"),), {"id": "text"}), "the model dim_account"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_have_models_is_named(table: CapturedTable, found: SourceTable | None, says: str) -> None:
    with pytest.raises(ModelsError, match=says):
        files(table, found)


def test_two_tables_that_would_have_the_same_model_are_named() -> None:
    tables = [CapturedTable(name, {"id": "text"}, versions=False) for name in ("loans", "loans_changes")]
    found = {table.name: SourceTable((SourceColumn("id", "text"),), {"id": "text"}) for table in tables}
    assert len(files_of_all(tables[:1], found)) == 4
    with pytest.raises(
        ModelsError, match=r"table loans_changes and another table would both have loans_changes.sql, loans_changes.yml"
    ):
        files_of_all(tables, found)


# the files


def test_generated_files_are_replaced_and_others_are_kept_and_named(tmp_path: Path) -> None:
    made = files(LOANS, SourceTable(COLUMNS, dict(LOANS.key)))
    (tmp_path / "models/bronze").mkdir(parents=True)
    first = write(tmp_path, made)
    assert sorted(first.written) == sorted(map(str, made))
    assert write(tmp_path, made).unchanged == sorted(map(str, made))
    by_hand, stale = tmp_path / "models/silver/loans.sql", tmp_path / "models/silver/loans.yml"
    by_hand.write_text("select 1 as one\n")
    stale.write_text(stale.read_text() + "# more\n")
    again = write(tmp_path, made)
    assert (again.left, again.written) == (["models/silver/loans.sql"], ["models/silver/loans.yml"])
    assert by_hand.read_text() == "select 1 as one\n"
    assert stale.read_text() == made[SILVER / "loans.yml"]


def test_generated_files_of_a_table_that_is_no_longer_declared_are_named_and_kept(tmp_path: Path) -> None:
    made = files(LOANS, SourceTable(COLUMNS, dict(LOANS.key)))
    write(tmp_path, made)
    (tmp_path / "models/silver/own.sql").write_text("select 1 as one\n")
    assert write(tmp_path, {}).undeclared == sorted(map(str, made))
    assert all((tmp_path / name).is_file() for name in made)
