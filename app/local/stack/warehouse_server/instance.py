"""Stores fakesnow's databases as DuckDB files in the server's directory, and attaches all of them at start.

fakesnow itself keeps the metadata across databases (stages, file formats, column lengths) in memory, and attaches a database's file only
when a client names it at login. After a restart, stages would be lost and qualified names would not resolve.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import duckdb
from fakesnow import info_schema, macros
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.instance import GLOBAL_DATABASE_NAME, FakeSnow
from fakesnow.transforms import show

MAX_RESULTS: Final = 32


class RecentResults(OrderedDict[str, Any]):
    """Results of the last statements, for RESULT_SCAN. fakesnow itself keeps every result forever."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > MAX_RESULTS:
            self.popitem(last=False)


class PersistentFakeSnow(FakeSnow):
    """fakesnow with its databases in a directory."""

    def __init__(self, directory: Path, *, memory_mb: int) -> None:
        # replaces FakeSnow's constructor, which would attach the global database in memory
        self.create_database_on_connect = self.create_schema_on_connect = False
        self.db_path = self._directory = directory
        self.nop_regexes = None
        self.results_cache = RecentResults()
        spill = directory / "spill"
        spill.mkdir(exist_ok=True, mode=0o700)
        self.duck_conn = duckdb.connect(
            ":memory:",
            config={
                "lambda_syntax": "ENABLE_SINGLE_ARROW",  # sqlglot still writes arrow lambdas
                "memory_limit": f"{memory_mb}MiB",
                "temp_directory": str(spill),
                "autoinstall_known_extensions": "false",
            },
        )
        self._attach(GLOBAL_DATABASE_NAME)
        self.duck_conn.execute(info_schema.fs_global_creation_sql())
        self.duck_conn.execute(show.fs_global_creation_sql())
        self.duck_conn.execute("SET GLOBAL TimeZone = 'UTC'")
        for file in sorted(directory.glob("*.db")):
            if file.stem != GLOBAL_DATABASE_NAME:
                self._attach(file.stem)
                self.duck_conn.execute(info_schema.per_db_creation_sql(file.stem))
                self.duck_conn.execute(macros.creation_sql(file.stem))

    def _attach(self, database: str) -> None:
        path = str(self._directory / f"{database}.db").replace("'", "''")
        self.duck_conn.execute(f"""ATTACH '{path}' AS "{database}" """)

    def open(self, database: str | None, schema: str | None, *, autocommit: bool) -> FakeSnowflakeConnection:
        """Returns a new session. As on Snowflake, a database that does not exist is not created: the session then has none."""
        return self.connect(database, schema, autocommit=autocommit)

    def close(self) -> None:
        """Write everything to the files and close DuckDB."""
        self.duck_conn.close()
