"""Sessions at the warehouse for the lookup API. Apart from `history`, which imports it when versions are first asked for."""

from contextlib import suppress
from typing import Any, Final

from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import Error

from app.config.settings import SnowflakeSettings
from app.errors import SettingsError
from app.web.history import HistoryUnavailableError
from sinks.snowflake import connect
from sinks.sql import identifier

MAX_RECORDS: Final = 20_000
"""Of one row: more are refused rather than read."""


class LandingReader:
    """Reads the landing tables, in as many threads at once as like."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        self._settings = settings
        self._schema = f"{identifier(settings.database)}.BRONZE"
        self._free: list[SnowflakeConnection] = []

    def read(self, table: str, key: str, value: int) -> list[str]:
        """The open and close records of a row as JSON, in the log's order. HistoryUnavailableError."""
        statement = (
            f"SELECT record:value AS version FROM {self._schema}.{identifier(f'SCD2_{table.upper()}')} "  # noqa: S608 - our names
            f"WHERE record:value:key:{key}::number(38, 0) = %s "
            "ORDER BY record:ts::number(38, 0), record:partition::number(38, 0), record:offset::number(38, 0) "
            f"LIMIT {MAX_RECORDS + 1}"
        )
        try:
            connection = self._free.pop() if self._free else connect(self._settings)
            try:
                cursor = connection.cursor()
                cursor.execute(statement, [value])
                rows: list[Any] = cursor.fetchall()
            except BaseException:
                with suppress(Error):
                    connection.close()
                raise
        except (Error, SettingsError, OSError) as error:
            raise HistoryUnavailableError(type(error).__name__) from error
        self._free.append(connection)
        if len(rows) > MAX_RECORDS:
            raise HistoryUnavailableError(f"a row has more than {MAX_RECORDS} records")
        return [row[0] for row in rows]

    def close(self) -> None:
        """End the sessions."""
        while self._free:
            with suppress(Error):
                self._free.pop().close()
