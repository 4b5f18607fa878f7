"""Decodes a Debezium JSON envelope, plain or inside {schema, payload}, into a RowChange. Raises PoisonRecordError with a reason."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from app.cdc.schema import as_declared, to_text
from app.domain.captured import KeyType
from app.domain.changes import Key, Operation, Row, RowChange, equal_values
from app.domain.times import MAX_US, MIN_US
from app.errors import PoisonRecordError

OPERATIONS: Final[dict[str, Operation]] = {"r": "r", "c": "c", "u": "u", "d": "d", "t": "t"}
MESSAGE: Final = "m"
"""A logical message (pg_logical_emit_message): it changes no row."""

SNAPSHOT: Final[dict[str | bool | None, Literal["row", "last_row"]]] = {
    True: "row",
    "true": "row",
    "first": "row",
    "first_in_data_collection": "row",
    "last_in_data_collection": "last_row",
    "last": "last_row",
}
"""The meaning of `source.snapshot`. `incremental` is left out: such a snapshot is read in chunks, at many positions."""

NEW_KEY: Final = "__debezium.newkey"
OLD_KEY: Final = "__debezium.oldkey"

T = TypeVar("T")


_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Source(msgspec.Struct, rename={"tx_id": "txId"}, gc=False):
    table: str | None = None
    lsn: _Int64 | None = None
    tx_id: _Int64 | None = None
    ts_us: int | None = None
    ts_ms: int | None = None
    snapshot: str | bool | None = None


class _Envelope(msgspec.Struct, gc=False):
    op: str | None = None
    before: Row | None = None
    after: Row | None = None
    source: _Source | None = None
    schema: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_envelopes = msgspec.json.Decoder(_Envelope)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_integers = msgspec.json.Decoder(int)


def decode(
    value: bytes | None, headers: Sequence[tuple[str, bytes]], table: str, encodings: Mapping[str, str] | None = None
) -> RowChange | None:
    """Returns the change in a record of this table's topic; None for a tombstone or a logical message.

    The types of the columns come from the message's schema, or from the table's declared `encodings` if the message has no schema.

    Raises PoisonRecordError: `not_json`, `not_an_envelope`, `unknown_operation`, `wrong_table`, `no_row`, `no_commit_time`,
    `bad_schema` or `bad_value`.
    """
    envelope = _open(value)
    if envelope is None or envelope.op == MESSAGE:
        return None
    source = envelope.source
    if envelope.op is None or source is None:
        raise PoisonRecordError(
            "this is JSON but no Debezium envelope (it has no op or no source). If the connector flattens its records "
            "(ExtractNewRecordState), take that transform out",
            reason="not_an_envelope",
        )
    operation = OPERATIONS.get(envelope.op)
    if operation is None:
        raise PoisonRecordError(
            f"op {envelope.op!r} is none of {', '.join(OPERATIONS)}: written by a newer Debezium, perhaps",
            reason="unknown_operation",
        )
    if source.table != table:
        raise PoisonRecordError(
            f"this is a change of table {source.table!r} on the topic of {table!r}: a transform or topic naming strategy misroutes it",
            reason="wrong_table",
        )
    if operation in ("r", "c", "u") and envelope.after is None:
        raise PoisonRecordError(f"op {operation!r} has no row in `after`", reason="no_row")
    before, after = envelope.before, envelope.after
    if envelope.schema is not msgspec.UNSET:
        schema = bytes(envelope.schema)
        before, after = to_text(before, schema, "before"), to_text(after, schema, "after")
    elif encodings:
        before, after = as_declared(before, encodings), as_declared(after, encodings)
    return RowChange(
        table,
        operation,
        before,
        after,
        source.lsn if source.lsn is not None and source.lsn >= 0 else None,
        source.tx_id,
        _commit_us(source),
        previous_key=_header_key(headers, OLD_KEY) if operation == "c" else None,
        next_key=_header_key(headers, NEW_KEY) if operation == "d" else None,
        snapshot=SNAPSHOT.get(source.snapshot, "none") if operation == "r" else "none",
    )


def decode_key(key: bytes | None) -> dict[str, msgspec.Raw]:
    """Returns the columns of a message key, plain or inside {schema, payload}. Raises PoisonRecordError `no_key` or `not_json`."""
    if key is None:
        raise PoisonRecordError(
            "the record has no key: the table needs a primary key or message.key.columns", reason="no_key"
        )
    columns = _parse(_keys.decode, key, "the key")
    if columns.keys() == {"schema", "payload"}:
        columns = _parse(_keys.decode, bytes(columns["payload"]), "the key")
    return columns


def primary_key(change: RowChange, key: bytes | None, columns: Mapping[str, KeyType]) -> dict[str, int | str]:
    """Returns the row's primary key from the message key. Raises PoisonRecordError `no_key`, `key_mismatch` or `bad_key`."""
    row = change.after if change.after is not None else change.before
    in_key = decode_key(key)
    return {column: _key_value(in_key.get(column), row or {}, column, kind) for column, kind in columns.items()}


def _key_value(in_key: msgspec.Raw | None, row: Row, column: str, kind: KeyType) -> int | str:
    in_row = row.get(column)
    if in_key is None:
        raise PoisonRecordError(f"the record's key has no column {column!r}", reason="no_key")
    if in_row is not None and not equal_values(in_row, in_key):
        raise PoisonRecordError(
            f"the record's key says {column} {bytes(in_key)[:40]!r}, its row {bytes(in_row)[:40]!r}",
            reason="key_mismatch",
        )
    return integer(in_key, column) if kind == "integer" else text(in_key, column)


def integer(value: msgspec.Raw, column: str) -> int:
    """Returns the value of a 64-bit integer column. Raises PoisonRecordError `bad_key`."""
    try:
        number = _integers.decode(value)
    except msgspec.MsgspecError as error:
        raise PoisonRecordError(
            f"{column} {bytes(value)[:40]!r} is not an integer: {error}", reason="bad_key"
        ) from None
    if not -(1 << 63) <= number < 1 << 63:
        raise PoisonRecordError(f"{column} {number} does not fit 64 bits", reason="bad_key")
    return number


def text(value: msgspec.Raw, column: str) -> str:
    """Returns the value of a key column that is written as a string. Raises PoisonRecordError `bad_key`."""
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.MsgspecError as error:
        raise PoisonRecordError(
            f"{column} {bytes(value)[:40]!r} is not a text: {error}. Declare it as an integer, if it is one",
            reason="bad_key",
        ) from None


def _open(value: bytes | None) -> _Envelope | None:
    if value is None:
        return None
    envelope = _parse(_envelopes.decode, value, "the value")
    if envelope.payload is msgspec.UNSET or envelope.schema is msgspec.UNSET:
        return envelope
    payload = bytes(envelope.payload)
    if payload == b"null":
        return None
    inner = _parse(_envelopes.decode, payload, "the payload")
    inner.schema = envelope.schema
    return inner


def _parse(decode: Callable[[bytes], T], raw: bytes, what: Literal["the value", "the payload", "the key"]) -> T:
    try:
        if not raw.isascii():
            raw.decode()  # the parser does not validate text that it skips
        return decode(raw)
    except UnicodeDecodeError as error:
        raise PoisonRecordError(
            f"{what} is not UTF-8: {error.reason} at byte {error.start}", reason="not_json"
        ) from None
    except msgspec.ValidationError as error:
        raise PoisonRecordError(f"{what} is JSON but no Debezium record: {error}", reason="not_an_envelope") from None
    except (msgspec.DecodeError, RecursionError) as error:
        hint = ". It begins with 0x00: Avro, perhaps; the converter must be JsonConverter" if raw[:1] == b"\0" else ""
        raise PoisonRecordError(f"{what} is not JSON: {error}{hint}", reason="not_json") from None


def _commit_us(source: _Source) -> int:
    commit_us = source.ts_us
    if commit_us is None and source.ts_ms is not None:
        commit_us = source.ts_ms * 1000
    if commit_us is None or not MIN_US <= commit_us <= MAX_US:
        raise PoisonRecordError(
            f"source.ts_us {source.ts_us} and source.ts_ms {source.ts_ms} name no instant in the years 1 to 9999",
            reason="no_commit_time",
        )
    return commit_us


def _header_key(headers: Sequence[tuple[str, bytes]], name: str) -> Key | None:
    """Returns the key in a header of a key change: JSON, plain or inside {schema, payload}. None if it is missing or empty."""
    for header, value in headers:
        if header == name and value:
            try:
                key = msgspec.json.decode(value)
            except msgspec.MsgspecError:
                return {}  # the key changed, but the other key is unreadable
            if isinstance(key, dict):
                inner = key.get("payload") if key.keys() == {"schema", "payload"} else key
                return inner if isinstance(inner, dict) else {}
            return {}
    return None
