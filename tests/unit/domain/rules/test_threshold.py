"""Tests rules of the kind threshold: cases, each with its reason."""

import random
from typing import Any

import pytest

from app.domain.money import to_decimal
from tests.support.streams.rules import outcome, random_types
from tests.support.streams.velocity import MINUTE_US, SECOND_US, transaction

M, S = MINUTE_US, SECOND_US


def random_fields(rnd: random.Random) -> dict[str, Any]:
    """Random fields of a rule of this kind, for the test of prefilters."""
    return {"at_least": to_decimal(rnd.randrange(8)), "types": random_types(rnd)}


@pytest.mark.parametrize(
    ("expected", "amount", "kind"),
    [("fired", "10000.00", "debit"), ("fired", "10000.00", "credit"), ("not_fired", "9999.99", "debit")],
)
def test_threshold(expected: str, amount: str, kind: str) -> None:
    assert outcome("threshold", transaction(1, amount=amount, kind=kind)) == expected
