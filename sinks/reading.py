"""The contract of a session with the warehouse: statements and their rows, large results in pages, and the ledger.

Statements are in Snowflake's SQL. What every implementation owes is tested by tests/integration/warehouse/test_reader_contract.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

from sinks.base import ChainKey, LedgerRow, SinkRefusedError

Row = tuple[Any, ...]
NamedRow = Mapping[str, Any]
"""Columns by their names in lower case."""
Values = Sequence[object] | Mapping[str, object]
"""For %s in the order of the statement, or for %(name)s. Without any, % in a statement is a plain character."""


class StatementRefusedError(SinkRefusedError):
    """The warehouse answered a statement with an error, whose number there is `number`. The session can be used further."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class MissingObjectError(StatementRefusedError):
    """A database, schema or table of the statement does not exist, or not for this role."""


class StatementTimeoutError(StatementRefusedError):
    """The statement took longer than the session allows and was cancelled."""


class WarehouseSession(Protocol):
    """One session, for one thread at a time; `with` ends it.

    Every call raises SinkUnavailableError when the warehouse does not answer or the session was lost. Whether the statement had an effect
    is then unknown, and the session is over: open another. StatementRefusedError when the warehouse answers with an error.
    """

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Run a statement of any kind and return its rows."""
        ...

    def close(self) -> None:
        """End the session, and drop its temporary tables with it. Raises nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...


class WarehouseReader(WarehouseSession, Protocol):
    """A session that reads one database."""

    def named_rows(self, statement: str, values: Values = ()) -> list[NamedRow]:
        """Run a statement and return its rows by column."""
        ...

    def pages(self, relation: str, columns: Sequence[str], *, size: int) -> Iterator[list[Row]]:
        """The rows of a relation in the order of the first of these columns, `size` of them in memory at a time.

        That column is a key: it has no NULL and no value twice. Each page is a statement of its own, so the relation must not change
        meanwhile.
        """
        ...

    def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Every row of the ledger, as committed. ContinuityError when a chain has two."""
        ...
