"""Hashes the content of landing tables in the warehouse, one hash for each block of offsets, so that a difference can be located.

A hash covers the rows' JSON as the warehouse prints it; equal VARIANTs have the same text. Two tables in the same kind of warehouse have
equal hashes exactly if they have the same rows. Hashes from different kinds of warehouses cannot be compared.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from app.proof.rebuild.report import RebuildError
from sinks.base import ChainKey
from sinks.reading import WarehouseReader
from sinks.relations import relation
from sinks.sql import literal

BLOCK: Final = 10_000
"""Offsets of a block. Its hashes, 64 characters each, stay far below the 16 MB limit of a text."""

Ends = Mapping[ChainKey, int]
Limits = Mapping[tuple[str, int], int | None]
"""The last offset to compare, by topic and partition; None: all offsets."""

CONTENT: Final = """
    WITH landed AS (
        SELECT
            record:topic::varchar AS topic,
            record:partition::number(38, 0) AS log_partition,
            record:offset::number(38, 0) AS log_offset,
            to_json(record) AS content
        FROM {table}
    )
    SELECT
        topic, log_partition, floor(log_offset / {block}) AS block, count(*) AS row_count,
        sha2(listagg(sha2(content, 256), '') WITHIN GROUP (ORDER BY log_offset, content), 256) AS hash
    FROM landed
    WHERE {limits}
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3
"""


class Block(NamedTuple):
    """A range of offsets of one partition."""

    topic: str
    partition: int
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}, offsets {self.number * BLOCK} to {(self.number + 1) * BLOCK - 1}"


Content = dict[Block, tuple[int, str]]
"""The row count and the hash of every block that has rows."""


def ends(reader: WarehouseReader) -> dict[ChainKey, int]:
    """Returns the last loaded offset of every chain in the ledger. SinkError if the warehouse does not answer."""
    return {chain: row.last_offset for chain, row in reader.ledger().items()}


def limits(first: Ends, second: Ends) -> dict[tuple[str, int], int | None]:
    """Returns the last offsets that both warehouses have loaded: through these they can be compared while the first continues to load.

    A landing row does not carry its topic id. A partition with several topic ids is therefore compared as a whole, which requires that
    both warehouses have loaded it equally far; RebuildError if they have not.
    """
    found: dict[tuple[str, int], int | None] = {}
    by_partition: dict[tuple[str, int], list[ChainKey]] = {}
    for key in first.keys() | second.keys():
        by_partition.setdefault((key.topic, key.partition), []).append(key)
    for partition, keys in by_partition.items():
        if len(keys) == 1:
            found[partition] = min(first.get(keys[0], -1), second.get(keys[0], -1))
        elif all(first.get(key, -1) == second.get(key, -1) for key in keys):
            found[partition] = None
        else:
            raise RebuildError(
                f"topic {partition[0]} was recreated at some time, and its partition {partition[1]} is loaded further in one "
                "warehouse than in the other. Run this again when no changes arrive"
            )
    return found


def content(reader: WarehouseReader, database: str, table: str, within: Limits | None = None) -> Content:
    """Returns the blocks of a landing table. SinkError if the warehouse does not answer."""
    sql = CONTENT.format(
        table=relation(database, table),
        block=BLOCK,
        limits="true" if within is None else _condition(within),
    )
    return {
        Block(topic, int(partition), int(number)): (int(rows), str(hashed))
        for topic, partition, number, rows, hashed in reader.rows(sql)
    }


def total(found: Content) -> tuple[int, str]:
    """Returns the row count and the hash of a whole table."""
    digest = hashlib.sha256()
    for block, (rows, hashed) in sorted(found.items()):
        digest.update(f"{block.topic}\0{block.partition}\0{block.number}\0{rows}\0{hashed}\n".encode())
    return sum(rows for rows, _ in found.values()), digest.hexdigest()


def differences(first: Content, second: Content) -> list[str]:
    """Returns a line for each block that differs."""
    return [
        f"{block}: {first.get(block, (0, ''))[0]:,} rows in the first, {second.get(block, (0, ''))[0]:,} rebuilt"
        + (", with other content" if first.get(block, (0, ""))[0] == second.get(block, (0, ""))[0] else "")
        for block in sorted(first.keys() | second.keys())
        if first.get(block) != second.get(block)
    ]


def _condition(within: Limits) -> str:
    """Returns the SQL condition for the rows within the limits."""
    parts = [
        f"(topic = {literal(topic)} AND log_partition = {partition:d}"
        + (f" AND log_offset <= {last:d})" if last is not None else ")")
        for (topic, partition), last in sorted(within.items())
    ]
    return " OR ".join(parts) or "false"
