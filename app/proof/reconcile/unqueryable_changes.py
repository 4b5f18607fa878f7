"""Decodes raw changes that landed without a queryable value: as base64, because JSON parsers differ over it, or as a separate object.

SQL cannot read them, so they are decoded here with the streams' decoder. The query receives only the fields that it needs: the
operation, the position, the transaction, whether the change ends a snapshot, and the row's key. The row itself stays in this process
until a page of the result refers to it.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import zstandard

from app.cdc.envelope import decode
from app.config.settings import S3Settings
from app.config.topics import cdc_topic
from app.domain.captured import CapturedTable, KeyType
from app.domain.changes import Row, RowChange
from app.errors import PoisonRecordError
from app.proof.reconcile.report import ReconcileError
from sinks import lines
from sinks.base import SinkRefusedError, SinkUnavailableError
from sinks.sessions import open_store

MARK: Final = "__bankstream_aside"
"""The column that refers to a row in this process. No table of PostgreSQL has a column of this name."""

Landed = tuple[int, int, int | None, str | None, str | None]
"""Partition, offset, Kafka's timestamp (ms), value_base64, large_object."""


@dataclass(frozen=True, slots=True)
class UnqueryableChanges:
    """The decoded changes of one table. `records` are JSON in the form of a landing table, which the query reads."""

    records: tuple[str, ...]
    images: dict[str, Row]

    def image(self, mark: str) -> dict[str, Any]:
        """Returns the row that a mark refers to, every number as its text."""
        return {name: json.loads(bytes(raw), parse_int=str, parse_float=str) for name, raw in self.images[mark].items()}


def decode_unqueryable(table: CapturedTable, landed: Iterable[Landed], lake: S3Settings | None) -> UnqueryableChanges:
    """Returns the changes among these records of a table's topic. Skips records that the streams reject as poison.

    ReconcileError if the object of a large record cannot be read.
    """
    rows = list(landed)
    large = _contents(sorted({name for *_, name in rows if name is not None}), lake)
    records: list[str] = []
    topic = cdc_topic(table).name
    images: dict[str, Row] = {}
    for partition, offset, recorded_ms, wrapped, name in rows:
        value = large[name] if name is not None else None if wrapped is None else base64.b64decode(wrapped)
        try:
            change = decode(value, (), table.name, table.encodings)
        except PoisonRecordError:
            continue
        if change is None:
            continue
        mark = f"{partition}/{offset}"
        image = change.before if change.operation == "d" else change.after
        if image is not None:
            images[mark] = image
        record = {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "ts": recorded_ms,
            "value": _envelope(change, image, table.key, mark),
        }
        records.append(msgspec.json.encode(record).decode())
    return UnqueryableChanges(tuple(records), images)


def _envelope(change: RowChange, image: Row | None, key: Mapping[str, KeyType], mark: str) -> dict[str, Any]:
    """Returns the fields of a change that the query needs."""
    kept = None if image is None else {column: image[column] for column in key if column in image} | {MARK: mark}
    return {
        "op": change.operation,
        "source": {
            "lsn": change.lsn,
            "txId": change.tx_id,
            "ts_us": change.commit_us,
            "snapshot": "last" if change.snapshot == "last_row" else None,
        },
        "before" if change.operation == "d" else "after": kept,
    }


def _contents(names: list[str], lake: S3Settings | None) -> dict[str, bytes | None]:
    """Returns the values of large records, by the names of their objects."""
    if not names:
        return {}
    if lake is None:
        raise ReconcileError(
            f"{names[0]} holds a record that is too large for the warehouse, and no lake is configured to read it from"
        )
    return asyncio.run(_read(names, lake))


async def _read(names: list[str], lake: S3Settings) -> dict[str, bytes | None]:
    store = open_store(lake)
    try:
        return {name: _value(await store.get(name)) for name in names}
    except (SinkUnavailableError, SinkRefusedError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise ReconcileError(f"a record too large for the warehouse cannot be read from the lake: {error}") from None
    finally:
        await store.close()


def _value(body: bytes) -> bytes | None:
    return lines.read(zstandard.ZstdDecompressor().decompressobj().decompress(body)).value_bytes()
