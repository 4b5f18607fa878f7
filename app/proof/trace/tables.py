"""The warehouse's side of a trace: rows of models, landing rows, and what the ledger says."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from snowflake.connector import DictCursor
from snowflake.connector.errors import Error

from app.config.settings import SnowflakeSettings
from app.proof.trace.places import Position
from sinks.base import ChainKey, LedgerRow
from sinks.snowflake import LEDGER, connect
from sinks.sql import identifier

MISSING: Final = 2003
"""Snowflake's number for an object that does not exist, or not for this role."""

Row = Mapping[str, Any]
"""Columns by their names in lower case."""


class TablesError(Exception):
    """The warehouse did not answer, or has no such table."""


class Tables:
    """One session, for one thread. Every method raises TablesError."""

    def __init__(self, settings: SnowflakeSettings, landing: Mapping[str, str]) -> None:
        """`landing`: the landing table of each topic."""
        self._database, self._landing_of = identifier(settings.database), landing
        try:
            self._connection = connect(settings)
        except Error as error:
            raise TablesError(f"the warehouse does not let {settings.user} in: {_reason(error)}") from None

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def model(self, relation: str, column: str, value: object, order: str) -> list[Row]:
        """The rows of a model with this value, in this order."""
        return self._run(
            f"SELECT * FROM {self._database}.{relation} WHERE {identifier(column)} = %s ORDER BY {order}",  # noqa: S608
            [value],
        )

    def landed(self, position: Position) -> list[str]:
        """The landing rows of a record, as JSON."""
        rows = self._run(
            f"SELECT record FROM {self._landing(position.topic)} WHERE record:topic::varchar = %s "  # noqa: S608 - our names
            "AND record:partition::number(38, 0) = %s AND record:offset::number(38, 0) = %s",
            list(position),
        )
        return [str(row["record"]) for row in rows]

    def version(self, topic: str, version_id: str) -> list[tuple[str, Position]]:
        """The open and close records of an SCD2 version: which it is, and where."""
        rows = self._run(
            "SELECT record:value:op::varchar AS op, record:partition::number(38, 0) AS log_partition, "  # noqa: S608 - our names
            f"record:offset::number(38, 0) AS log_offset FROM {self._landing(topic)} "
            "WHERE record:value:version_id::varchar = %s ORDER BY 3",
            [version_id],
        )
        return [(str(row["op"]), Position(topic, int(row["log_partition"]), int(row["log_offset"]))) for row in rows]

    def ledger(self, topic: str, partition: int) -> dict[ChainKey, LedgerRow]:
        """The ledger's rows of a partition, by chain."""
        rows = self._run(
            "SELECT incarnation, last_offset, last_object, last_sha256 "  # noqa: S608 - our names
            f"FROM {self._database}.BRONZE.{LEDGER} WHERE topic = %s AND log_partition = %s",
            [topic, partition],
        )
        return {
            ChainKey(topic, row["incarnation"], partition): LedgerRow(
                int(row["last_offset"]), row["last_object"] or "", row["last_sha256"] or ""
            )
            for row in rows
        }

    def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """The highest offset that has landed of a partition and the highest that the ledger names, at one instant; -1: none."""
        [row] = self._run(
            "SELECT coalesce(max(record:offset::number(38, 0)), -1) AS landed, coalesce((SELECT max(last_offset) "  # noqa: S608
            f"FROM {self._database}.BRONZE.{LEDGER} WHERE topic = %s AND log_partition = %s), -1) AS noted "
            f"FROM {self._landing(topic)} WHERE record:topic::varchar = %s AND record:partition::number(38, 0) = %s",
            [topic, partition, topic, partition],
        )
        return int(row["landed"]), int(row["noted"])

    def _landing(self, topic: str) -> str:
        return f"{self._database}.BRONZE.{self._landing_of[topic]}"

    def _run(self, statement: str, values: Sequence[object]) -> list[Row]:
        try:
            with self._connection.cursor(DictCursor) as cursor:
                found = cursor.execute(statement, tuple(values))
                return [{name.lower(): value for name, value in row.items()} for row in found or ()]
        except Error as error:
            raise TablesError(_reason(error)) from None


def _reason(error: Error) -> str:
    text = " ".join(str(error.msg or error).split())
    hint = ". Build the models first: make dbt" if error.errno == MISSING else ""
    return f"{text.rstrip('.')}{hint}"
