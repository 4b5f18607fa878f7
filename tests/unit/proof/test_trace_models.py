"""Tests how the argument of a trace names a row: by keys of one or several columns, of numbers and of text."""

import pytest

from app.domain.captured import CapturedTable
from app.proof.trace.models import traceable
from tests.support.catalogue import CATALOGUE

LOANS = CapturedTable("loans", {"branch": "text", "number": "integer"})
PRICES = CapturedTable("prices", {"valid_from": "text"})
ORDER = CapturedTable("order", {"id": "integer"})
MODELS = traceable((*CATALOGUE.tables, LOANS, PRICES, ORDER))


def test_every_captured_table_has_a_model_in_silver_and_those_of_gold_stay() -> None:
    relations = {name: model.relation for name, model in MODELS.items()}
    assert relations == {
        "customers": "SILVER.CUSTOMERS", "accounts": "SILVER.ACCOUNTS", "transactions": "SILVER.TRANSACTIONS",
        "loans": "SILVER.LOANS", "prices": "SILVER.PRICES", "order": "SILVER.ORDER_",
        "dim_customer": "GOLD.DIM_CUSTOMER", "dim_account": "GOLD.DIM_ACCOUNT", "fct_transactions": "GOLD.FCT_TRANSACTIONS",
        "fct_alerts": "GOLD.FCT_ALERTS", "fct_velocity": "GOLD.FCT_VELOCITY",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "text", "named"),
    [
        ("customers", "7", {"customer_id": 7}),
        ("customers", "-7", {"customer_id": -7}),
        ("fct_alerts", "threshold:1-2-3", {"alert_id": "threshold:1-2-3"}),
        ("prices", "2026-01-01", {"valid_from_": "2026-01-01"}),
        ("prices", "[a,b=c]", {"valid_from_": "[a,b=c]"}),
        ("loans", "branch=Bern,number=1", {"branch": "Bern", "number": 1}),
        ("loans", "number=1,branch=", {"branch": "", "number": 1}),
        ("loans", "branch=a=b,number=1", {"branch": "a=b", "number": 1}),
        ("loans", '["Zürich, HB", 1]', {"branch": "Zürich, HB", "number": 1}),
        ("loans", '["", "1"]', {"branch": "", "number": 1}),
    ],
)
def test_a_text_names_a_row(table: str, text: str, named: dict[str, int | str]) -> None:
    assert MODELS[table].read_key(text) == named


@pytest.mark.parametrize(
    ("table", "text", "says"),
    [
        ("customers", "seven", "'seven' is not a customer_id, which is a whole number"),
        ("customers", "9223372036854775808", "64 bits"),
        ("loans", "Bern", r'use branch=…,number=…, or \["…", 0\] as JSON'),
        ("loans", "branch=Bern", "is not a key of branch, number"),
        ("loans", "branch=Bern,number=1,more=2", "is not a key"),
        ("loans", "branch=Bern,number=one", "'one' is not a number"),
        ("loans", '["Bern"]', "is not a key"),
        ("loans", '["Bern", 1, 2]', "is not a key"),
        ("loans", '["Bern", null]', "is not a key"),
        ("loans", '["Bern"', "is not a key"),
        ("loans", "", "is not a key"),
    ],
)
def test_an_invalid_argument_is_refused_with_the_correct_form(table: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MODELS[table].read_key(text)
