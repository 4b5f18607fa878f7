"""Tests the declarations of captured tables: what a file may contain, and the topics that result."""

from pathlib import Path
from typing import Any

import pytest

from app.config.captured_tables import OWN_TABLES, load_tables
from app.config.topics import cdc_topic, scd2_topic
from app.domain.captured import CapturedTable, TablesError, read_tables
from app.operations.provision.connector import configuration
from tests.support.catalogue import CATALOGUE

BANK: dict[str, Any] = {name: {"key": dict.fromkeys(key, "integer")} for name, key in OWN_TABLES.items()}


def test_the_shipped_file_declares_the_banks_tables() -> None:
    tables = CATALOGUE.tables
    assert [(table.name, dict(table.key), table.versions) for table in tables] == [
        ("customers", {"customer_id": "integer"}, True),
        ("accounts", {"account_id": "integer"}, True),
        ("transactions", {"transaction_id": "integer"}, False),
    ]
    assert all(table.untracked is None and table.whole_snapshots for table in tables)
    assert {f"public.{table.name}" for table in tables} <= set(
        configuration(CATALOGUE)["table.include.list"].split(",")
    )
    assert configuration(CATALOGUE)["table.include.list"].endswith("public.heartbeat")


def test_topics_of_a_table_follow_from_its_declaration() -> None:
    cards = CapturedTable("cards", {"branch": "text", "number": "integer"})
    assert (cdc_topic(cards).name, cdc_topic(cards).landing) == ("bank.public.cards", "CDC_EVENTS")
    assert (scd2_topic(cards).name, scd2_topic(cards).landing) == ("bank.scd2.cards", "SCD2_CARDS")
    assert scd2_topic(cards).key == "{branch, number}"
    assert CATALOGUE.by_name["bank.scd2.customers"].key == "{customer_id}"


def test_a_declaration_can_set_every_property_of_a_table() -> None:
    fields = {
        "key": {"branch": "text", "number": "integer"}, "untracked": ["hits"], "versions": True, "whole_snapshots": False,
        "encodings": {"limit": "decimal:2", "since": "timestamp-us"},
    }  # fmt: skip
    *_, cards = read_tables({**BANK, "cards": fields}, "captured.toml", OWN_TABLES)
    assert cards == CapturedTable(
        "cards", {"branch": "text", "number": "integer"}, frozenset({"hits"}), {"limit": "decimal:2", "since": "timestamp-us"},
        versions=True, whole_snapshots=False,
    )  # fmt: skip
    assert list(cards.key) == ["branch", "number"], "the key's order counts"


def test_omitted_fields_of_a_declaration_have_defaults() -> None:
    *_, cards = read_tables({**BANK, "cards": {"key": {"number": "integer"}}}, "captured.toml", OWN_TABLES)
    assert cards == CapturedTable("cards", {"number": "integer"}, None, {}, versions=True, whole_snapshots=True)
    assert cards.integer_key
    assert not CapturedTable("cards", {"number": "integer", "branch": "text"}).integer_key


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({**BANK, "cards": {}}, r"\[cards\] key: the columns"),
        ({**BANK, "cards": {"key": {}}}, r"\[cards\] key"),
        ({**BANK, "cards": {"key": {"id": "uuid"}}}, '"integer" or "text"'),
        ({**BANK, "cards": {"key": {"id": "text"}, "untracked": "hits"}}, r"\[cards\] untracked: a list"),
        (
            {**BANK, "cards": {"key": {"id": "text"}, "encodings": {"a": "money"}}},
            "decimal:<scale> or one of date, time-ms, ",
        ),
        ({**BANK, "cards": {"key": {"id": "text"}, "encodings": {"a": "decimal:1000"}}}, "decimal:<scale>"),
        ({**BANK, "cards": {"key": {"id": "text"}, "encodings": {"a": 2}}}, "decimal:<scale>"),
        ({**BANK, "cards": {"key": {"id": "text"}, "versions": "no"}}, r"\[cards\] versions: true or false"),
        ({**BANK, "cards": {"key": {"id": "text"}, "tracked": ["a"]}}, "no such field, only encodings, key"),
        ({**BANK, "Cards; DROP": {"key": {"id": "text"}}}, "lower case letters"),
        ({**BANK, "heartbeat": {"key": {"id": "integer"}}}, "not heartbeat"),
        ({**BANK, "cards": 7}, "outside of a"),
        ({"customers": BANK["customers"]}, r'\[accounts\] is needed, with key = { account_id = "integer" }'),
        ({**BANK, "customers": {"key": {"customer_id": "text"}}}, r"\[customers\] is needed"),
    ],
)
def test_errors_in_a_declaration_are_named(document: dict[str, Any], says: str) -> None:
    with pytest.raises(TablesError, match=says):
        read_tables(document, "captured.toml", OWN_TABLES)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(TablesError) as refused:
        read_tables({"cards": {"kye": {}}}, "captured.toml", OWN_TABLES)
    assert all(part in str(refused.value) for part in ("[cards] kye", "[cards] key", "[customers]", "[transactions]"))


def test_a_key_of_several_columns_that_is_needed_is_named_whole() -> None:
    with pytest.raises(TablesError, match=r'is needed, with key = { branch = "integer", number = "integer" }'):
        read_tables({}, "captured.toml", {"cards": ("branch", "number")})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[customers")
    with pytest.raises(TablesError, match=r"bad\.toml: this is no TOML"):
        load_tables(tmp_path / "bad.toml")
    with pytest.raises(TablesError, match="BANKSTREAM_TABLES_FILE"):
        load_tables(tmp_path / "none.toml")
