"""Opens a session with Snowflake, maps its errors, and implements the warehouse reader with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

import snowflake.connector
from snowflake.connector import SnowflakeConnection, errors

from app.config.settings import SnowflakeSettings
from app.errors import SettingsError, one_line
from sinks.base import ChainKey, LedgerRow, SinkUnavailableError
from sinks.reading import MissingObjectError, NamedRow, Row, StatementRefusedError, StatementTimeoutError, Values
from sinks.relations import SCHEMA, ledger_query, ledger_rows
from sinks.sql import identifier

LOCK_TIMEOUT_S: Final = 60
SESSION_ERRORS: Final = range(390_000, 391_000)
"""Error numbers of the login service, which mean that the session has ended or expired."""
MISSING: Final = frozenset({2003, 2043})
"""Error numbers of an object that does not exist or to which this role has no access."""
CANCELLED: Final = 604


def connect(settings: SnowflakeSettings, *, database: bool = True) -> SnowflakeConnection:
    """Returns a session, authenticated by key pair if there is a key, else by password. Blocks. Raises the connector's errors."""
    if settings.private_key_path is None and settings.password is None:
        raise SettingsError(
            "the warehouse has no credentials. Set BANKSTREAM_SNOWFLAKE_PRIVATE_KEY_PATH (preferred) or BANKSTREAM_SNOWFLAKE_PASSWORD."
        )
    arguments: dict[str, Any] = {
        "account": settings.account,
        "user": settings.user,
        "port": settings.port,
        "protocol": settings.protocol,
        "login_timeout": settings.login_timeout_s,
        "network_timeout": settings.network_timeout_s,
        "application": "bankstream",
        "session_parameters": {
            "CLIENT_TELEMETRY_ENABLED": False,
            "LOCK_TIMEOUT": LOCK_TIMEOUT_S,
            "QUERY_TAG": "bankstream",
        },
    }
    if settings.host is not None:
        arguments["host"] = settings.host
    if settings.private_key_path is not None:
        arguments["authenticator"] = "SNOWFLAKE_JWT"
        arguments["private_key_file"] = str(settings.private_key_path)
        if settings.private_key_passphrase is not None:
            arguments["private_key_file_pwd"] = settings.private_key_passphrase.get_secret_value()
    elif settings.password is not None:
        arguments["password"] = settings.password.get_secret_value()
    for name in ("warehouse", "role"):
        if (value := getattr(settings, name)) is not None:
            arguments[name] = value
    if database:
        arguments |= {"database": settings.database, "schema": SCHEMA}
    return snowflake.connector.connect(**arguments)


def is_refusal(error: errors.Error) -> bool:
    """Returns whether this error is an answer to a statement in a session that remains usable. Otherwise the session is lost."""
    answered = isinstance(error, errors.ProgrammingError | errors.IntegrityError)
    return answered and (error.errno or 0) not in SESSION_ERRORS


class SnowflakeSession:
    """A session that is opened by the constructor, with the settings' database as the current one or none. Implements WarehouseReader.

    The constructor raises SinkUnavailableError if no session can be opened. `statement_timeout_s` limits every statement.
    """

    def __init__(
        self, settings: SnowflakeSettings, *, database: bool = True, statement_timeout_s: int | None = None
    ) -> None:
        self._where = f"the warehouse at {settings.host or settings.account}"
        self._database, self._timeout_s = settings.database, statement_timeout_s
        try:
            self._connection = connect(settings, database=database)
        except (errors.Error, OSError) as error:
            raise SinkUnavailableError(
                f"{self._where} gives no session to {settings.user}: {_reason(error)}. "
                "Check that it runs, and check BANKSTREAM_SNOWFLAKE_*."
            ) from None

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Run a statement of any kind and return its rows."""
        return self._run(statement, values)[1]

    def named_rows(self, statement: str, values: Values = ()) -> list[NamedRow]:
        """Run a statement and return its rows by column name."""
        names, rows = self._run(statement, values)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def pages(self, relation: str, columns: Sequence[str], *, size: int) -> Iterator[list[Row]]:
        """Yields pages by the key of the last row. The server would hold the whole of a single result that is fetched in parts."""
        names, key = ", ".join(map(identifier, columns)), identifier(columns[0])
        after: list[object] = []
        while True:
            beyond = f"WHERE {key} > %s" if after else ""
            page = self.rows(f"SELECT {names} FROM {relation} {beyond} ORDER BY {key} LIMIT {size:d}", after)  # noqa: S608
            if page:
                yield page
            if len(page) < size:
                return
            after = [page[-1][0]]

    def ledger(self) -> dict[ChainKey, LedgerRow]:
        """Returns every row of the ledger."""
        return ledger_rows(self.rows(ledger_query(self._database)))

    def close(self) -> None:
        """Close the session."""
        with suppress(errors.Error, OSError):
            self._connection.close(retry=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _run(self, statement: str, values: Values) -> tuple[list[str], list[Row]]:
        """Returns the column names and the rows."""
        bound = dict(values) if isinstance(values, Mapping) else tuple(values)
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, bound or None, timeout=self._timeout_s)
                return [column.name.lower() for column in cursor.description], [tuple(row) for row in cursor.fetchall()]
        except (errors.Error, OSError) as error:
            if isinstance(error, errors.Error) and is_refusal(error):
                raise self._refused(error) from None
            self.close()
            raise SinkUnavailableError(
                f"{self._where} does not answer, or has ended the session: {_reason(error)}"
            ) from None

    def _refused(self, error: errors.Error) -> StatementRefusedError:
        number = error.errno or 0
        if number == CANCELLED and self._timeout_s is not None:
            return StatementTimeoutError(f"{self._where} gave no answer within {self._timeout_s} s", number)
        kind = MissingObjectError if number in MISSING else StatementRefusedError
        return kind(f"{self._where} refuses a statement: {_reason(error)}", number)


def _reason(error: errors.Error | OSError) -> str:
    """Returns the whole message, because the first line of a compilation error does not name the object."""
    return f"{type(error).__name__}: {one_line(error)}"
