"""Fixes differences between fakesnow 0.12.1 and Snowflake that affect the project's SQL and dbt's.

Each fix names the difference. `apply` is called once, before the server starts. The fixes replace functions of fakesnow's modules by name,
so each needs a review for a new version of fakesnow. The version is pinned, and the tests of this package cover every fix.
"""

from string import Template
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from fakesnow import arrow, copy_into, cursor, dialect, info_schema, transforms
from fakesnow.transforms.merge import operations
from snowflake.connector import errors
from sqlglot import Expr, exp

from app.local.stack.warehouse_server import copy_statement

CONFLICT = 625
"""Snowflake's error number for a statement that conflicts with another transaction."""


def apply(objects: copy_statement.StagedFiles | None) -> None:
    """Install every fix. `objects` reads the external stages' files; with None, COPY stays fakesnow's."""
    for module, name, replacement in (
        (arrow, "timestamp_to_sf_struct", timestamps),
        (cursor, "parse_one", parse_one),
        (cursor.FakeSnowflakeCursor, "_execute", execute),
        (transforms, "merge", lambda statement: [statement]),
        (info_schema, "SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW", TABLES_AND_VIEWS),
    ):
        setattr(module, name, replacement)
    if objects is not None:
        cursor.copy_into = copy_statement.Copier(objects, copy_into.copy_into)  # type: ignore[attr-defined]  # a name it imports


def timestamps(column: pa.Array | pa.ChunkedArray) -> pa.StructArray:
    """Converts a timestamp column. fakesnow returned NULL as 1970-01-01, because the struct of a timestamp needs its own null mask."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    filled = pc.fill_null(column, pa.scalar(0, type=column.type))
    parts = {
        "epoch": pc.divide(pc.floor_temporal(filled, unit="second").cast(pa.int64()), _units_per_second(column.type)),
        "fraction": pc.round(pc.multiply(pc.subsecond(filled), 1_000_000_000)).cast(pa.int32()),
    }
    if column.type.tz:
        parts["timezone"] = pa.array(
            [1440] * len(column), type=pa.int32()
        )  # UTC: Snowflake encodes an offset as minutes plus 1440
    fields = [pa.field(name, values.type, nullable=False) for name, values in parts.items()]
    return pa.StructArray.from_arrays(list(parts.values()), fields=fields, mask=pc.is_null(column))


def _units_per_second(kind: pa.TimestampType) -> int:
    return {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]


def parse_one(command: str) -> Expr:
    """Parses a statement. Temporary tables and views with a qualified name, which dbt creates, do not exist in DuckDB.

    They become permanent ones. dbt drops them after use.
    """
    statement = dialect.parse_one(command)
    if isinstance(statement, exp.Create) and str(statement.args.get("kind")).upper() in ("TABLE", "VIEW"):
        table, properties = statement.find(exp.Table), statement.args.get("properties")
        if table is not None and table.db and properties is not None:
            kept = [item for item in properties.expressions if not isinstance(item, exp.TemporaryProperty)]
            properties.set("expressions", kept)
    return statement


def execute(self: Any, statement: Expr, params: Any = None) -> None:
    """Executes a statement. In fakesnow, MERGE is several statements and not atomic, and some DuckDB errors become HTTP 500.

    Clients retry HTTP 500 for minutes. This function also records on the connection whether a transaction is open, which fakesnow does only
    for transactions that it began itself.
    """
    try:
        if isinstance(statement, exp.Merge):
            merge(self, statement, params)
        elif isinstance(statement, exp.Drop) and str(statement.args.get("kind")).upper() == "DATABASE":
            drop_database(self, statement)
        else:
            _original_execute(self, statement, params)
        if isinstance(statement, exp.Transaction):
            self._conn._in_transaction = True  # noqa: SLF001 - this is a method of fakesnow's cursor
    except duckdb.ConstraintException as error:
        raise errors.ProgrammingError(msg=str(error), errno=100072, sqlstate="22000") from error
    except duckdb.TransactionException as error:
        raise errors.ProgrammingError(msg=str(error), errno=CONFLICT, sqlstate="57014") from error
    except duckdb.InvalidInputException as error:
        if "more than once" in str(error):
            raise errors.ProgrammingError(
                msg="Duplicate row detected during DML action", errno=100090, sqlstate="42P18"
            ) from error
        raise
    finally:
        if isinstance(statement, (exp.Commit, exp.Rollback)):
            self._conn._in_transaction = False  # noqa: SLF001 - as above


def merge(self: Any, statement: exp.Merge, params: Any) -> None:
    """Run a MERGE as one DuckDB MERGE, and set the cursor's result to the row counts that Snowflake returns."""
    for when in statement.args["whens"]:
        update = when.args.get("then")
        if isinstance(update, exp.Update):
            for assignment in update.expressions:  # DuckDB needs an unqualified column on the left side
                if isinstance(assignment.this, exp.Column):
                    assignment.set("this", exp.column(assignment.this.this.copy()))
    wanted = operations(statement)
    counts = dict.fromkeys(wanted, 0)
    actions = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}
    sql = f"{statement.sql(dialect='duckdb')} RETURNING merge_action"
    for (action,) in self._duck_conn.execute(sql, params).fetchall():
        counts[actions[action]] += 1
    columns = ", ".join(
        f'{counts[name]}::BIGINT AS "number of rows {name}"' for name, clauses in wanted.items() if clauses
    )
    _original_execute(self, exp.maybe_parse(f"SELECT {columns}", dialect="duckdb"))
    self._rowcount = sum(counts.values())


def drop_database(self: Any, statement: exp.Drop) -> None:
    """Runs DROP DATABASE, a syntax error in DuckDB: detaches and removes the file, and deletes its entries in fakesnow's tables."""
    identifier = statement.find(exp.Identifier)
    assert identifier is not None, "the parser refuses DROP DATABASE without a name"
    name = identifier.name
    session, connection = self._conn, self._duck_conn
    attached = {row[0] for row in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}
    if name not in attached or name.startswith("_fs") or name in ("memory", "system", "temp"):
        if not statement.args.get("exists"):
            raise errors.ProgrammingError(
                msg=f"Database '{name}' does not exist or not authorized.", errno=2003, sqlstate="02000"
            )
    else:
        if session.database == name:
            connection.execute("SET schema = 'memory.main'")
            session.database, session._schema = None, None  # noqa: SLF001 - fakesnow does this for schemas
            session.database_set = session.schema_set = False
        connection.execute(f'DETACH DATABASE "{name}"')
        for suffix in (".db", ".db.wal"):
            (session.db_path / f"{name}{suffix}").unlink(missing_ok=True)
        for table, column in (
            ("_fs_stages", "database_name"),
            ("_fs_file_formats", "database_name"),
            ("_fs_tables_ext", "ext_table_catalog"),
            ("_fs_columns_ext", "ext_table_catalog"),
        ):
            sql = f"DELETE FROM _fs_global._fs_information_schema.{table} WHERE {column} = ?"  # noqa: S608 - our names
            connection.execute(sql, [name])
    _original_execute(self, exp.maybe_parse(f"SELECT '{name} successfully dropped.' AS status", dialect="duckdb"))


_TABLES = info_schema.SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW.template
TABLES_AND_VIEWS = Template(
    _TABLES.replace(
        "create view if not exists", "create or replace view"
    )  # also replaces the view in databases of an older server
    .replace("'BASE TABLE' AS", "tables.kind AS")
    .replace(
        "duckdb_tables tables",
        """(
            select database_name, schema_name, table_name, 'BASE TABLE' as kind, estimated_size from duckdb_tables
            union all
            select database_name, schema_name, view_name, 'VIEW', null from duckdb_views
        ) as tables""",
    )
)
"""Adds views to INFORMATION_SCHEMA.TABLES. Without them dbt's documentation listed no views."""

_original_execute = cursor.FakeSnowflakeCursor._execute  # noqa: SLF001 - see apply
