"""Encodes a record as one line of NDJSON with the unchanged bytes of its key and value, and decodes such lines.

    {"topic":…,"partition":…,"offset":…,"ts":…,"key":…,"value":…}

`ts` is Kafka's timestamp in milliseconds. A key or value is written as base64 in `key_base64` / `value_base64`, with `key` / `value` null,
if it is not JSON, or if the warehouse's JSON parser would reject or change it (NaN, duplicate names, numbers beyond its range, lone
surrogates, deep nesting, raw line breaks). Such a record must not stop a load of thousands, and none of its bytes may be lost. A tombstone
has neither `value` nor `value_base64`. A record too large for a VARIANT is put into its own object, which `large_object` names.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from app.engine.unit_of_work import InputRecord
from sinks import metrics

MAX_DEPTH: Final = 100
"""Maximum depth of nested objects and arrays. The limits of parsers differ; realistic records are far below this one."""
MAX_DIGITS: Final = 38
"""Maximum of digits of a number without an exponent, which the warehouse stores exactly."""
MAX_FLOAT_DIGITS: Final = 17
"""Maximum of digits of a number with an exponent, which the warehouse stores as a double."""
MAX_INLINE_BYTES: Final = 11 << 20
"""Maximum size of key and value together, so that they fit into a VARIANT of 16 MB even as base64."""

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_DIGITS: Final = re.compile(r"\d")


class Line(msgspec.Struct, frozen=True):
    """A decoded line."""

    topic: str
    partition: int
    offset: int
    ts: int
    key: msgspec.Raw
    value: msgspec.Raw
    key_base64: str | None = None
    value_base64: str | None = None
    large_object: str | None = None

    def key_bytes(self) -> bytes | None:
        """Returns the record's key. The key of a large record is in its object."""
        return _bytes(self.key, self.key_base64)

    def value_bytes(self) -> bytes | None:
        """Returns the record's value. The value of a large record is in its object."""
        return _bytes(self.value, self.value_base64)


read: Final = msgspec.json.Decoder(Line).decode
"""Decodes a line's bytes to a Line."""


class _UnfitError(ValueError):
    """JSON that parsers may read differently."""


def line_encoder(topic: str, partition: int) -> Callable[[InputRecord], bytes]:
    """Returns the encoder for the records of one partition, except large ones."""
    head = _head(topic, partition)
    wrapped = metrics.WRAPPED.labels(topic)

    def field(name: bytes, raw: bytes) -> bytes:
        wrapped.inc()
        return b',"%s_base64":"%s"' % (name, b64encode(raw))

    def line(record: InputRecord) -> bytes:
        key, value = record.key, record.value
        embedded_key, embedded_value = embedded(key), embedded(value)
        return b'%s%d,"ts":%d,"key":%s,"value":%s%s%s}\n' % (
            head,
            record.offset,
            record.timestamp,
            embedded_key or b"null",
            embedded_value or b"null",
            b"" if embedded_key is not None or key is None else field(b"key", key),
            b"" if embedded_value is not None or value is None else field(b"value", value),
        )

    return line


def is_large(record: InputRecord) -> bool:
    """Returns whether the record needs its own object."""
    return len(record.key or b"") + len(record.value or b"") > MAX_INLINE_BYTES


def large_record_line(record: InputRecord, name: str) -> tuple[bytes, bytes]:
    """Returns the line of a large record, and the content of its object `name`, which is the same line with key and value in base64."""
    head = b'%s%d,"ts":%d,"key":null,"value":null' % (
        _head(record.topic, record.partition),
        record.offset,
        record.timestamp,
    )
    content = b"".join(
        b',"%s_base64":"%s"' % (part, b64encode(raw))
        for part, raw in ((b"key", record.key), (b"value", record.value))
        if raw is not None
    )
    return b'%s,"large_object":%s}\n' % (head, json.dumps(name).encode()), b"%s%s}\n" % (head, content)


def _head(topic: str, partition: int) -> bytes:
    return b'{"topic":%s,"partition":%d,"offset":' % (json.dumps(topic).encode(), partition)


def _bytes(embedded_json: msgspec.Raw, base64: str | None) -> bytes | None:
    if base64 is not None:
        return b64decode(base64)
    raw = bytes(embedded_json)
    return None if raw == b"null" else raw


def embedded(raw: bytes | None) -> bytes | None:
    """Returns the same bytes if a line can contain them as JSON, else None.

    >>> embedded(b'{"amount":12.50}')
    b'{"amount":12.50}'
    >>> embedded(b'{"amount":NaN}') is embedded(b'{"a":1,"a":2}') is embedded(b"text") is None
    True
    """
    if raw is None or raw != raw.strip() or b"\n" in raw or b"\r" in raw or _NUL.search(raw):
        return None  # spaces around a value would be lost
    try:
        found = _decoder.decode(raw.decode())
        if found is None:
            return None  # the text `null` is not a tombstone
        if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _deeper(found, MAX_DEPTH):
            return None
        if b"\\u" in raw:
            json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate has no encoding
    except (ValueError, RecursionError):
        return None
    return raw


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _UnfitError("duplicate name")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _UnfitError("more digits than a NUMBER has")
    return 0


def _fraction(text: str) -> float:
    mantissa, exponent, _ = text.replace("E", "e").partition("e")
    digits = len(_DIGITS.findall(mantissa))
    if not exponent:
        if digits > MAX_DIGITS:
            raise _UnfitError("more digits than a NUMBER has")
        return 0.0
    value = float(text)
    if digits > MAX_FLOAT_DIGITS or value in (float("inf"), float("-inf")):
        raise _UnfitError("beyond a double")
    if value == 0.0 and mantissa.strip("-0.") != "":
        raise _UnfitError("below a double")
    return 0.0


def _constant(text: str) -> None:
    raise _UnfitError(f"{text} is not JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
