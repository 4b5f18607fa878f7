"""Opens the configured lake, and sessions with the configured warehouse. Only this module knows their kinds.

The implementation is imported when it is opened. Importing Snowflake's client takes a second and 76 MB. A process that may never
query the warehouse, such as a streams worker with the lookup API, starts without it.
"""

from app.config.settings import S3Settings, SnowflakeSettings
from sinks.base import ObjectStore
from sinks.reading import WarehouseReader, WarehouseSession


def open_reader(settings: SnowflakeSettings, *, statement_timeout_s: int | None = None) -> WarehouseReader:
    """Returns a session that reads the settings' database. Blocks.

    Raises SinkUnavailableError if no session can be opened, and SettingsError without credentials. A statement that takes longer than
    `statement_timeout_s` raises StatementTimeoutError; the default limit is BANKSTREAM_SNOWFLAKE_NETWORK_TIMEOUT_S.
    """
    from sinks.snowflake_session import SnowflakeSession  # noqa: PLC0415 - see above

    return SnowflakeSession(settings, statement_timeout_s=statement_timeout_s)


def open_session(settings: SnowflakeSettings) -> WarehouseSession:
    """Returns a session without a current database, for statements that create one and its content. Blocks. Raises as `open_reader`."""
    from sinks.snowflake_session import SnowflakeSession  # noqa: PLC0415 - see above

    return SnowflakeSession(settings, database=False)


def open_store(settings: S3Settings) -> ObjectStore:
    """Returns the lake's object store. It connects when it is first used; `close` releases its connections."""
    from sinks.s3 import S3Store  # noqa: PLC0415 - see above

    return S3Store(settings)
