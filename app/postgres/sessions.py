"""Opens sessions with the source database, one function for each account, and formats log positions."""

from typing import Any, Final

import psycopg
from pydantic import SecretStr

from app.config.settings import PostgresSettings, SourceSettings

XID_MODULUS: Final = 1 << 32
"""Debezium identifies a transaction by the low 32 bits of its id, like the WAL."""


def as_reader(settings: SourceSettings, **options: Any) -> psycopg.Connection[Any]:
    """Opens a session of the read-only account. Takes options of libpq and psycopg. Raises psycopg.OperationalError if the login fails."""
    return log_in(settings, settings.reader_user, settings.reader_password, **options)


def as_bank(settings: PostgresSettings, **options: Any) -> psycopg.Connection[Any]:
    """Opens a session of the bank's own software; otherwise like `as_reader`."""
    return log_in(settings, settings.user, settings.password, **options)


def log_in(
    settings: PostgresSettings, user: str | None, password: SecretStr | None, **options: Any
) -> psycopg.Connection[Any]:
    """Opens a session of any account, on the database of the settings unless `options` name another."""
    arguments: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "dbname": settings.dbname,
        "sslmode": settings.sslmode,
        "user": user,
        "password": password.get_secret_value() if password else None,
    }
    return psycopg.connect(**arguments | options)


def lsn_text(lsn: int) -> str:
    """Returns an LSN in PostgreSQL's notation.

    >>> lsn_text(28_575_624)
    '0/1B40788'
    """
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
