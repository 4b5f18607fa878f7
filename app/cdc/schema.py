"""Converts encoded decimals, dates and times to text, by the message's schema or by the table's declared encodings.

The text is that of Debezium's `decimal.handling.mode=string` and `time.precision.mode=isostring`: decimals with their scale, times as
ISO 8601 in UTC. Other modes encode the same values as base64 or numbers and name the type only in the schema. So a row has the same
values whatever mode the connector uses, and a change of mode opens no version. Types without a semantic name pass through unchanged.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Context, Decimal
from functools import cache, lru_cache
from typing import Any, Final

import msgspec

from app.domain.changes import Row
from app.domain.times import MAX_US, MIN_US, format_us
from app.errors import PoisonRecordError

Convert = Callable[[Any], str]

EPOCH: Final = date(1970, 1, 1)
_EXACT: Final = Context(prec=100_000)
_SEMANTICS: Final = {
    "decimal": "org.apache.kafka.connect.data.Decimal",
    "variable-decimal": "io.debezium.data.VariableScaleDecimal",
    "date": "io.debezium.time.Date",
    "timestamp-ms": "io.debezium.time.Timestamp",
    "timestamp-us": "io.debezium.time.MicroTimestamp",
    "timestamp-ns": "io.debezium.time.NanoTimestamp",
    "time-ms": "io.debezium.time.Time",
    "time-us": "io.debezium.time.MicroTime",
    "time-ns": "io.debezium.time.NanoTime",
}
"""Debezium's semantic type for each encoding that a table may declare."""


class _Field(msgspec.Struct):
    field: str | None = None
    name: str | None = None
    parameters: dict[str, str] | None = None
    fields: "list[_Field] | None" = None


_schemas = msgspec.json.Decoder(_Field)


def to_text(row: Row | None, schema: bytes, image: str) -> Row | None:
    """Returns the row with the values of encoded columns as text. `image` is the envelope's field of the row, `before` or `after`.

    Raises PoisonRecordError `bad_schema` or `bad_value`.
    """
    return _converted(row, _converters(schema).get(image))


def as_declared(row: Row | None, encodings: Mapping[str, str]) -> Row | None:
    """Does the same for a message without a schema: `encodings` maps a column to its encoding (`CapturedTable.encodings`).

    Raises PoisonRecordError `bad_value`.
    """
    return _converted(row, {name: _declared(encoding) for name, encoding in encodings.items()})


def _converted(row: Row | None, converters: Mapping[str, Convert] | None) -> Row | None:
    if row is None or not converters:
        return row
    converted = dict(row)
    for name, convert in converters.items():
        raw = row.get(name)
        if raw is None or bytes(raw) == b"null":
            continue
        try:
            converted[name] = msgspec.Raw(msgspec.json.encode(convert(msgspec.json.decode(raw))))
        except (ValueError, TypeError, KeyError, OverflowError, ArithmeticError) as error:
            raise PoisonRecordError(
                f"column {name!r}: {bytes(raw)[:60]!r} is not what its schema or declaration says: {error}",
                reason="bad_value",
            ) from None
    return converted


@cache
def _declared(encoding: str) -> Convert:
    kind, _, scale = encoding.partition(":")
    convert = _convert(_Field(name=_SEMANTICS[kind], parameters={"scale": scale}))
    assert convert is not None
    return convert


@lru_cache(maxsize=256)
def _converters(schema: bytes) -> dict[str, dict[str, Convert]]:
    try:
        envelope = _schemas.decode(schema)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PoisonRecordError(f"the schema is not one of Connect's: {error}", reason="bad_schema") from None
    found: dict[str, dict[str, Convert]] = {}
    for image in envelope.fields or ():
        columns = {
            column.field: convert for column in image.fields or () if column.field and (convert := _convert(column))
        }
        if image.field and columns:
            found[image.field] = columns
    return found


def _convert(column: _Field) -> Convert | None:
    match column.name:
        case "org.apache.kafka.connect.data.Decimal":
            scale = int((column.parameters or {}).get("scale", "0"))
            return lambda value: _decimal(value, scale)
        case "io.debezium.data.VariableScaleDecimal":
            return lambda value: _decimal(value["value"], int(value["scale"]))
        case "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date":
            return lambda days: f"{EPOCH + timedelta(days=days)}Z"
        case "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp":
            return lambda ms: _instant(ms * 1000)
        case "io.debezium.time.MicroTimestamp":
            return _instant
        case "io.debezium.time.NanoTimestamp":
            return lambda ns: _instant(ns // 1000)
        case "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time":
            return lambda ms: _time(ms * 1000)
        case "io.debezium.time.MicroTime":
            return _time
        case "io.debezium.time.NanoTime":
            return lambda ns: _time(ns // 1000)
    return None


def _decimal(unscaled: str, scale: int) -> str:
    """Decodes base64 of a big-endian two's complement number.

    >>> _decimal("AfQ=", 2), _decimal("/w==", 2)
    ('5.00', '-0.01')
    """
    try:
        raw = base64.b64decode(unscaled, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64 ({error})") from None
    if not raw:
        raise ValueError("a decimal of no bytes")
    return f"{Decimal(int.from_bytes(raw, 'big', signed=True)).scaleb(-scale, _EXACT):f}"


def _instant(instant_us: int) -> str:
    if not MIN_US <= instant_us <= MAX_US:  # these modes encode PostgreSQL's infinities like this
        return "infinity" if instant_us > 0 else "-infinity"
    return format_us(instant_us)


def _time(time_us: int) -> str:
    """Returns a time of day as text; 24:00:00 is allowed.

    >>> _time(86_400_000_000), _time(1_500_000)
    ('24:00:00Z', '00:00:01.500000Z')
    """
    seconds, micros = divmod(time_us, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{micros:06d}" if micros else ""
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}Z"
