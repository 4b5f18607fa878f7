"""Executes COPY INTO of JSON files from an external stage: fetches the files in parallel and inserts them with one statement.

fakesnow reads one file after the other through a remote file system, with several requests for each file, and reads its load history with
one statement for each file. Other formats and internal stages still go through fakesnow.

As on Snowflake, a file that was loaded into the table before is skipped unless FORCE is set. A missing file fails the statement (91016),
and so does a line that is not JSON (100038). The statement is part of the session's transaction.
"""

import gzip
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import boto3
import duckdb
import pyarrow as pa
import zstandard
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from fakesnow import copy_into as original
from snowflake.connector import errors
from sqlglot import exp

from app.config.settings import WarehouseServerSettings

FETCHERS: Final = 8
MAX_FILE_BYTES: Final = 512 << 20
INCOMING: Final = "_bankstream_incoming"


class StagedFiles:
    """Reads the objects of external stages."""

    def __init__(self, settings: WarehouseServerSettings) -> None:
        secret = settings.s3_secret_access_key
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 5},
                max_pool_connections=FETCHERS,
                proxies={},
                s3={"addressing_style": "path"},
            ),
        )
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="stage")

    def lines(self, urls: Sequence[str]) -> list[list[bytes]]:
        """Returns the lines of each object, decompressed according to its suffix. Raises ProgrammingError 91016 for a missing one."""
        return list(self._pool.map(self._lines, urls))

    def _lines(self, url: str) -> list[bytes]:
        parts = urlsplit(url)
        try:
            body = self._client.get_object(Bucket=parts.netloc, Key=unquote(parts.path).lstrip("/"))["Body"].read()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise errors.ProgrammingError(
                msg=f"Remote file '{url}' was not found or cannot be read ({code}).", errno=91016, sqlstate="22000"
            ) from None
        except BotoCoreError as error:
            raise errors.ProgrammingError(
                msg=f"Remote file '{url}' cannot be read: {error}", errno=91016, sqlstate="22000"
            ) from None
        try:
            return [line for line in _plain(url, body).split(b"\n") if line.strip()]
        except (OSError, EOFError, zstandard.ZstdError) as error:
            raise errors.ProgrammingError(
                msg=f"Error decompressing '{url}': {error}", errno=100016, sqlstate="22000"
            ) from None


def _plain(url: str, body: bytes) -> bytes:
    if url.endswith((".zst", ".zstd")):
        with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
            content = bytes(reader.read(MAX_FILE_BYTES + 1))
    elif url.endswith((".gz", ".gzip")):
        with gzip.open(io.BytesIO(body)) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    else:
        content = body
    if len(content) > MAX_FILE_BYTES:
        raise errors.ProgrammingError(
            msg=f"'{url}' is larger than {MAX_FILE_BYTES} bytes", errno=100016, sqlstate="22000"
        )
    return content


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """The table that a COPY writes to."""

    sql: str
    """The table, with the column list if the statement has one."""
    catalog: str
    schema: str
    table: str

    @property
    def history(self) -> str:
        """Fakesnow's table of loaded files. It is in the target's database because a DuckDB transaction writes to one database only."""
        return f'"{self.catalog}"._fs_information_schema._fs_load_history'


class Copier:
    """Replaces fakesnow's `copy_into`."""

    def __init__(self, objects: StagedFiles, fallback: Callable[..., str]) -> None:
        self._objects, self._fallback = objects, fallback

    def __call__(
        self,
        duck_conn: duckdb.DuckDBPyConnection,
        current_database: str | None,
        current_schema: str | None,
        expr: exp.Copy,
        table_stages: Any,
        params: Any = None,
    ) -> str:
        """Run the COPY and leave its result on the connection. Returns the SQL of that result."""
        options = original._params(  # noqa: SLF001 - uses fakesnow's parsing of the statement
            expr, params, duck_conn=duck_conn, current_database=current_database, current_schema=current_schema
        )
        table = original._extract_table(expr.this)  # noqa: SLF001
        source = original._from_source(expr)  # noqa: SLF001
        simple = isinstance(options.file_format, original.ReadJSON) and not isinstance(
            expr.args["files"][0], exp.Subquery
        )
        if simple and options.files and source.startswith("@"):
            location = original.stage_url_from_var(
                source[1:], duck_conn, current_database, current_schema, table_stages, table
            )
            if location.startswith("s3://"):
                urls = original._source_urls(f"{location.rstrip('/')}/", options.files)  # noqa: SLF001
                catalog, schema = table.catalog or current_database, table.db or current_schema
                target = CopyTarget(expr.this.sql(dialect="duckdb"), f"{catalog}", f"{schema}", table.name)
                return self._copy(duck_conn, target, urls, force=options.force)
        result: str = self._fallback(duck_conn, current_database, current_schema, expr, table_stages, params)
        return result

    def _copy(
        self,
        connection: duckdb.DuckDBPyConnection,
        target: CopyTarget,
        urls: Sequence[str],
        *,
        force: bool,
    ) -> str:
        connection.execute(
            f"SELECT file_name FROM {target.history} "  # noqa: S608 - the names are identifiers of the parsed statement
            "WHERE schema_name = ? AND table_name = ? AND list_contains(?, file_name)",
            [target.schema, target.table, list(urls)],
        )
        known = set() if force else {row[0] for row in connection.fetchall()}
        fresh = [url for url in dict.fromkeys(urls) if url not in known]
        contents = self._objects.lines(fresh)
        counts = {url: len(lines) for url, lines in zip(fresh, contents, strict=True)}
        self._insert(connection, target, [line for lines in contents for line in lines])
        self._remember(connection, target, counts)
        sql = _answer(urls, counts)
        connection.execute(sql)
        return sql

    @staticmethod
    def _insert(connection: duckdb.DuckDBPyConnection, target: CopyTarget, lines: list[bytes]) -> None:
        try:
            rows = pa.table({"line": pa.array(lines, type=pa.binary()).cast(pa.large_string())})
            connection.register(INCOMING, rows)
            try:
                insert = f"INSERT INTO {target.sql} SELECT line::JSON FROM {INCOMING}"  # noqa: S608 - as above
                connection.execute(insert)
            finally:
                with suppress(duckdb.Error):  # DuckDB refuses this in a transaction that the INSERT has just aborted
                    connection.unregister(INCOMING)
        except (duckdb.ConversionException, pa.ArrowInvalid) as error:
            raise errors.ProgrammingError(
                msg=f"Error parsing JSON: {str(error).splitlines()[0]}", errno=100038, sqlstate="22018"
            ) from None

    @staticmethod
    def _remember(connection: duckdb.DuckDBPyConnection, target: CopyTarget, counts: dict[str, int]) -> None:
        if not counts:
            return
        names, rows = list(counts), list(counts.values())
        connection.execute(
            f"INSERT INTO {target.history} SELECT $schema, unnest($names), $table, $now, 'LOADED', unnest($rows), unnest($rows), "
            "NULL, NULL, NULL, NULL, 0, 1",
            {
                "schema": target.schema,
                "table": target.table,
                "names": names,
                "rows": rows,
                "now": datetime.now(UTC).isoformat(),
            },
        )


def _answer(urls: Sequence[str], counts: dict[str, int]) -> str:
    """Returns the SQL of Snowflake's result of a COPY, with one row for each file."""
    rows = [
        (url, "LOADED", counts[url], counts[url], 1, 0, None)
        if url in counts
        else (url, "LOAD_SKIPPED", 0, 0, None, 1, "File was loaded before.")
        for url in urls
    ]
    values = exp.values(
        [(*row, None, None, None) for row in rows],
        alias="t",
        columns=(
            "file", "status", "rows_parsed", "rows_loaded", "error_limit", "errors_seen", "first_error", "first_error_line",
            "first_error_character", "first_error_column_name",
        ),
    )  # fmt: skip
    return exp.select("*").from_(values).sql(dialect="duckdb")
