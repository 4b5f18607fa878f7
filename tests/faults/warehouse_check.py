"""Checks that each landing table has each offset of its topics once."""

import itertools
from array import array
from collections.abc import Mapping

from aiokafka import TopicPartition

from app.config.settings import SnowflakeSettings
from sinks.reading import WarehouseReader
from sinks.relations import relation
from sinks.sessions import open_reader
from tests.faults.logs import Seen
from tests.faults.violations import Violations
from tests.support.catalogue import CATALOGUE


def hold_warehouse(settings: SnowflakeSettings, seen: Mapping[TopicPartition, Seen], verdict: Violations) -> None:
    """Adds a finding for each landing table that does not have each offset of its topics once."""
    with open_reader(settings) as reader:
        for landing, topics in itertools.groupby(
            sorted(CATALOGUE.landed, key=lambda t: t.landing or ""), lambda t: t.landing
        ):
            table = relation(settings.database, str(landing))
            rows = reader.rows(
                "SELECT record:topic::varchar, record:partition::int, count(*), count(DISTINCT record:offset::int), "  # noqa: S608 - ours
                f"sum(record:offset::int) FROM {table} GROUP BY 1, 2"
            )
            found = {TopicPartition(t, int(n)): (int(a), int(b), int(c)) for t, n, a, b, c in rows}
            mine = {topic.name for topic in topics}
            for tp in seen:
                if tp.topic in mine:
                    _landed(tp, table, seen[tp].offsets, found, reader, verdict)


def _landed(
    tp: TopicPartition,
    table: str,
    offsets: "array[int]",
    found: Mapping[TopicPartition, tuple[int, int, int]],
    reader: WarehouseReader,
    verdict: Violations,
) -> None:
    if found.get(tp, (0, 0, 0)) == (len(offsets), len(offsets), sum(offsets)):
        return
    rows = reader.rows(
        f"SELECT record:offset::int FROM {table} WHERE record:topic::varchar = '{tp.topic}' "  # noqa: S608 - ours
        f"AND record:partition::int = {tp.partition}"
    )
    landed = sorted(int(row[0]) for row in rows)
    missing, strange = sorted({*offsets} - {*landed}), sorted({*landed} - {*offsets})
    doubled = len(landed) - len({*landed}) + len(strange)
    verdict.add(
        f"warehouse: {tp.topic}/{tp.partition} lacks {missing[:8]} and has {doubled} too many, such as {strange[:8]}",
        lost=len(missing), doubled=doubled,
    )  # fmt: skip
