"""Sessions with the source database, and its notations. Which account a session is of is said here, what it is for by the caller."""

from typing import Any, Final

import psycopg
from pydantic import SecretStr

from app.config.settings import PostgresSettings, SourceSettings

XID_MODULUS: Final = 1 << 32
"""Debezium names a transaction by the low 32 bits of its id, as the log does."""


def as_reader(settings: SourceSettings, **options: Any) -> psycopg.Connection[Any]:
    """A session of the account that only reads, with libpq's and psycopg's options. psycopg.OperationalError when it is not let in."""
    return log_in(settings, settings.reader_user, settings.reader_password, **options)


def as_bank(settings: PostgresSettings, **options: Any) -> psycopg.Connection[Any]:
    """A session of the bank's own software; otherwise as `as_reader`."""
    return log_in(settings, settings.user, settings.password, **options)


def log_in(
    settings: PostgresSettings, user: str | None, password: SecretStr | None, **options: Any
) -> psycopg.Connection[Any]:
    """A session of any account, with the settings' database unless `options` name another."""
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
    """A log position in PostgreSQL's notation.

    >>> lsn_text(28_575_624)
    '0/1B40788'
    """
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
