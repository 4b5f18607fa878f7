"""Opens sessions with the configured warehouse: the one place that knows what kind of warehouse that is.

The implementation is imported when a session is opened. Snowflake's client takes a second and 76 MB; a process that may never ask the
warehouse, such as a streams worker with the lookup API, starts without it.
"""

from app.config.settings import SnowflakeSettings
from sinks.reading import WarehouseReader, WarehouseSession


def open_reader(settings: SnowflakeSettings, *, statement_timeout_s: int | None = None) -> WarehouseReader:
    """A session that reads the database of the settings. Blocks.

    SinkUnavailableError when there is no session to be had, SettingsError when there are no credentials. A statement that takes longer
    than `statement_timeout_s` raises StatementTimeoutError; unset: it may take BANKSTREAM_SNOWFLAKE_NETWORK_TIMEOUT_S.
    """
    from sinks.snowflake_session import SnowflakeSession  # noqa: PLC0415 - see above

    return SnowflakeSession(settings, statement_timeout_s=statement_timeout_s)


def open_session(settings: SnowflakeSettings) -> WarehouseSession:
    """A session without a current database, for statements that make one and what is in it. Blocks; errors as of `open_reader`."""
    from sinks.snowflake_session import SnowflakeSession  # noqa: PLC0415 - see above

    return SnowflakeSession(settings, database=False)
