"""Tests how the rows of the ledger are read."""

import pytest

from app.errors import ContinuityError
from sinks import relations
from sinks.base import ChainKey, LedgerRow


def test_the_ledger_is_read_by_chain_with_nothing_for_null() -> None:
    assert relations.ledger_rows([("t", "i", 0, 7, "t/i/0/0", "ab"), ("t", "i", 1, -1, None, None)]) == {
        ChainKey("t", "i", 0): LedgerRow(7, "t/i/0/0", "ab"), ChainKey("t", "i", 1): LedgerRow(),
    }  # fmt: skip


def test_a_chain_with_two_rows_is_named() -> None:
    with pytest.raises(ContinuityError, match=r"two rows for .*partition=1"):
        relations.ledger_rows([("t", "i", 1, 7, "a", "b"), ("t", "i", 1, 9, "c", "d")])
