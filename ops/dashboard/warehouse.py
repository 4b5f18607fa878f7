"""A read-only session with the warehouse for the dashboard: bound parameters, a limit of time on every statement, errors told apart."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from snowflake.connector import SnowflakeConnection, errors

from app.config.settings import SnowflakeSettings
from app.errors import BankstreamError, SettingsError
from sinks.snowflake import connect
from sinks.sql import identifier

STATEMENT_TIMEOUT_S: Final = 10
LOGIN_TIMEOUT_S: Final = 5
NO_SUCH_OBJECT: Final = frozenset({2003, 2043})
CANCELLED: Final = 604


class WarehouseProblemError(BankstreamError):
    """The warehouse does not answer a question of the dashboard."""


class WarehouseAwayError(WarehouseProblemError):
    """There is no session with it, or the session broke."""


class NotBuiltError(WarehouseProblemError):
    """It answers, and a table is not there: models that dbt has not built yet, or a database that was not set up."""


class Session:
    """Connects when first asked, and anew after every failure. Not safe for threads."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        self._settings = settings.model_copy(
            update={"login_timeout_s": LOGIN_TIMEOUT_S, "network_timeout_s": STATEMENT_TIMEOUT_S}
        )
        database = identifier(settings.database)
        self._schemas = {name: f"{database}.{name.upper()}" for name in ("bronze", "silver", "gold")}
        self._connection: SnowflakeConnection | None = None

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[tuple[Any, ...]]:
        """Rows of a statement with {bronze}, {silver} or {gold} for schemas and %(name)s for values. WarehouseProblemError."""
        try:
            if self._connection is None:
                self._connection = connect(self._settings)
            with self._connection.cursor() as cursor:
                cursor.execute(sql.format_map(self._schemas), dict(parameters or {}), timeout=STATEMENT_TIMEOUT_S)
                return [tuple(row) for row in cursor.fetchall()]
        except SettingsError as error:
            raise WarehouseAwayError(str(error)) from None
        except errors.ProgrammingError as error:
            if error.errno in NO_SUCH_OBJECT:
                raise NotBuiltError("a table that this page reads is not there, or not for this role") from None
            if error.errno == CANCELLED:
                raise WarehouseProblemError(f"no answer within {STATEMENT_TIMEOUT_S} s") from None
            self.close()
            raise WarehouseProblemError(f"the warehouse refuses the question (error {error.errno})") from None
        except (errors.Error, OSError) as error:
            self.close()
            where = self._settings.host or self._settings.account
            number = f" {error.errno}" if isinstance(error, errors.Error) and error.errno else ""
            raise WarehouseAwayError(f"{where} does not answer ({type(error).__name__}{number})") from None

    def close(self) -> None:
        """End the session; the next question begins another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(errors.Error, OSError):
                connection.close(retry=False)
