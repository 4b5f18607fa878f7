"""Direct clients of a test stack, independent of the application: PostgreSQL as administrator, and the lake's bucket."""

from typing import Any

import boto3
import psycopg
from botocore.config import Config
from psycopg import sql

from app.config.settings import S3Settings, SourceSettings
from app.postgres import log_in


def as_admin(settings: SourceSettings, **options: Any) -> psycopg.Connection[Any]:
    """A session as PostgreSQL's administrator in which every statement commits."""
    assert settings.admin_password is not None
    return log_in(settings, settings.admin_user, settings.admin_password, autocommit=True, connect_timeout=5, **options)


def admin_query(settings: SourceSettings, statement: str, *values: object) -> list[Any]:
    """Runs a statement as the administrator and returns its rows."""
    with as_admin(settings) as session:
        cursor = session.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def drop_database(settings: SourceSettings) -> None:
    """Drops the database in the settings, even if clients are connected."""
    with as_admin(settings, dbname="postgres") as session:
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(settings.dbname)))


def s3_client(settings: S3Settings) -> Any:
    """A client of the lake's server, never through a proxy."""
    assert settings.secret_access_key is not None
    return boto3.client(
        "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(), config=Config(proxies={}),
    )  # fmt: skip
