"""Raw changes that landed without their value: as base64, because JSON parsers differ over it, or as an object of their own.

No query can look into them, so they are decoded here, with the streams' own decoder, and go back into the query as what it needs to
know: the operation, the position, the transaction, whether it ends a snapshot, and the row's key. The row itself stays here until a page
of the result asks for it.
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
from sinks.s3 import S3Store

MARK: Final = "__bankstream_aside"
"""The column that stands for a row which is kept here; no table of PostgreSQL has one of this name."""

Landed = tuple[int, int, int | None, str | None, str | None]
"""Partition, offset, Kafka's timestamp (ms), value_base64, large_object."""


@dataclass(frozen=True, slots=True)
class UnqueryableChanges:
    """The changes of one table that were decoded here. `records` are JSON, as a landing table has it and the query reads it."""

    records: tuple[str, ...]
    images: dict[str, Row]

    def image(self, mark: str) -> dict[str, Any]:
        """The row that a mark stands for, every number as its text."""
        return {name: json.loads(bytes(raw), parse_int=str, parse_float=str) for name, raw in self.images[mark].items()}


def decode_unqueryable(table: CapturedTable, landed: Iterable[Landed], lake: S3Settings | None) -> UnqueryableChanges:
    """The changes among these records of a table's topic. What the streams refuse as poison is no change here either.

    ReconcileError when an object of a large record cannot be read.
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
    """What the query has to know of a change."""
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
    """The values of large records, by their objects' names."""
    if not names:
        return {}
    if lake is None:
        raise ReconcileError(
            f"{names[0]} holds a record that is too large for the warehouse, and no lake was named to read it from"
        )
    return asyncio.run(_read(names, lake))


async def _read(names: list[str], lake: S3Settings) -> dict[str, bytes | None]:
    store = S3Store(lake)
    try:
        return {name: _value(await store.get(name)) for name in names}
    except (SinkUnavailableError, SinkRefusedError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise ReconcileError(f"a record too large for the warehouse cannot be read from the lake: {error}") from None
    finally:
        await store.close()


def _value(body: bytes) -> bytes | None:
    return lines.read(zstandard.ZstdDecompressor().decompressobj().decompress(body)).value_bytes()
