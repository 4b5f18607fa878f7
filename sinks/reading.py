"""Defines the contract of a session with the warehouse: statements and their rows, large results in pages, and the ledger.

Statements are in Snowflake's SQL. tests/integration/warehouse/test_reader_contract.py tests every implementation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

from sinks.base import ChainKey, LedgerRow, SinkRefusedError

Row = tuple[Any, ...]
NamedRow = Mapping[str, Any]
"""Values by column name in lower case."""
Values = Sequence[object] | Mapping[str, object]
"""Values for %s in the statement's order, or for %(name)s. Without values, % in a statement is a plain character."""


class StatementRefusedError(SinkRefusedError):
    """The warehouse answered a statement with an error; `number` is its error number. The session remains usable."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class MissingObjectError(StatementRefusedError):
    """A database, schema or table of the statement does not exist, or this role has no access to it."""


class StatementTimeoutError(StatementRefusedError):
    """The statement took longer than the session allows and was cancelled."""


class WarehouseSession(Protocol):
    """One session, for one thread at a time. Use it as a context manager.

    Every call raises SinkUnavailableError if the warehouse does not answer or the session was lost. Whether the statement took effect is
    then unknown, and the session cannot be used again. It raises StatementRefusedError if the warehouse answers with an error.
    """

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Run a statement of any kind and return its rows."""
        ...

    def close(self) -> None:
        """Close the session, which drops its temporary tables. Raises nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...


class WarehouseReader(WarehouseSession, Protocol):
    """A session that reads one database."""

    def named_rows(self, statement: str, values: Values = ()) -> list[NamedRow]:
        """Run a statement and return its rows by column name."""
        ...

    def pages(self, relation: str, columns: Sequence[str], *, size: int) -> Iterator[list[Row]]:
        """Yields the rows of a relation in pages of `size`, in the order of the first of these columns.

        That column must be a key, without NULLs and duplicates. Each page is a separate statement, so the relation must not change
        meanwhile.
        """
        ...

    def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every committed row of the ledger. Raises ContinuityError if a chain has two rows."""
        ...
