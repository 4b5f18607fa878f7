"""Opens the dashboard's session with the warehouse. It limits the time of every statement and fills in the schemas' names."""

from collections.abc import Mapping, Sequence
from typing import Final

from app.config.settings import SnowflakeSettings
from sinks.base import SinkUnavailableError
from sinks.reading import Row, WarehouseReader
from sinks.sessions import open_reader
from sinks.sql import identifier

STATEMENT_TIMEOUT_S: Final = 10
LOGIN_TIMEOUT_S: Final = 5


class Session:
    """A session that connects at the first query, and again after a lost connection. Not thread-safe."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        self._settings = settings.model_copy(
            update={"login_timeout_s": LOGIN_TIMEOUT_S, "network_timeout_s": STATEMENT_TIMEOUT_S}
        )
        database = identifier(settings.database)
        self._schemas = {name: f"{database}.{name.upper()}" for name in ("bronze", "silver", "gold")}
        self._reader: WarehouseReader | None = None

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[Row]:
        """Returns rows of a statement with {bronze}, {silver} or {gold} for schemas and %(name)s for values. Errors as in `open_reader`."""
        if self._reader is None:
            self._reader = open_reader(self._settings, statement_timeout_s=STATEMENT_TIMEOUT_S)
        try:
            return self._reader.rows(sql.format_map(self._schemas), parameters or {})
        except SinkUnavailableError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the session; the next query opens another."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
