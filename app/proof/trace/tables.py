"""Reads the warehouse's side of a trace: rows of models, landing rows and the ledger."""

from collections.abc import Mapping

from app.config.settings import SnowflakeSettings
from app.proof.trace.record_position import RecordPosition
from sinks.base import ChainKey, LedgerRow
from sinks.reading import NamedRow
from sinks.relations import LEDGER, relation
from sinks.sessions import open_reader
from sinks.sql import identifier


class WarehouseTables:
    """A session for one thread. Every method raises SinkError."""

    def __init__(self, settings: SnowflakeSettings, landing: Mapping[str, str]) -> None:
        """`landing`: the landing table of each topic."""
        self._database, self._landing_of = settings.database, landing
        self._reader = open_reader(settings)

    def close(self) -> None:
        """Closes the session."""
        self._reader.close()

    def model(self, name: str, key: Mapping[str, object], order: str) -> list[NamedRow]:
        """Returns the rows of a model with these values, in this order."""
        where = " AND ".join(f"{identifier(column)} = %s" for column in key)
        return self._reader.named_rows(
            f"SELECT * FROM {identifier(self._database)}.{name} WHERE {where} ORDER BY {order}",  # noqa: S608
            [*key.values()],
        )

    def landed(self, position: RecordPosition) -> list[str]:
        """Returns the landing rows of a record, as JSON."""
        rows = self._reader.rows(
            f"SELECT record FROM {self._landing(position.topic)} WHERE record:topic::varchar = %s "  # noqa: S608 - our names
            "AND record:partition::number(38, 0) = %s AND record:offset::number(38, 0) = %s",
            position,
        )
        return [str(record) for (record,) in rows]

    def version(self, topic: str, version_id: str) -> list[tuple[str, RecordPosition]]:
        """Returns the operation and position of the open and close records of an SCD2 version."""
        rows = self._reader.named_rows(
            "SELECT record:value:op::varchar AS op, record:partition::number(38, 0) AS log_partition, "  # noqa: S608 - our names
            f"record:offset::number(38, 0) AS log_offset FROM {self._landing(topic)} "
            "WHERE record:value:version_id::varchar = %s ORDER BY 3",
            [version_id],
        )
        return [
            (str(row["op"]), RecordPosition(topic, int(row["log_partition"]), int(row["log_offset"]))) for row in rows
        ]

    def ledger(self, topic: str, partition: int) -> dict[ChainKey, LedgerRow]:
        """Returns the ledger's rows of a partition, by chain. ContinuityError if a chain has two."""
        ledger = self._reader.ledger()
        return {key: row for key, row in ledger.items() if (key.topic, key.partition) == (topic, partition)}

    def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """Returns the highest landed offset of a partition and the highest offset in the ledger, at one instant; -1: none."""
        [row] = self._reader.named_rows(
            "SELECT coalesce(max(record:offset::number(38, 0)), -1) AS landed, coalesce((SELECT max(last_offset) "  # noqa: S608
            f"FROM {relation(self._database, LEDGER)} WHERE topic = %s AND log_partition = %s), -1) AS noted "
            f"FROM {self._landing(topic)} WHERE record:topic::varchar = %s AND record:partition::number(38, 0) = %s",
            [topic, partition, topic, partition],
        )
        return int(row["landed"]), int(row["noted"])

    def _landing(self, topic: str) -> str:
        return relation(self._database, self._landing_of[topic])
