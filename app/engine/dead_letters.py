"""Dead letters: records that could not be processed, kept byte for byte with their origin and the error."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from app.engine.unit_of_work import InputRecord
from app.errors import PoisonRecordError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A refused record in the format of the dead-letter topic: JSON with these fields in this order.

    `key`, `value` and the values of `headers` are the record's bytes, encoded as base64 in JSON. `reason` is a short stable word for
    metrics, `stage` the step that refused the record, `error` the exception class, `failed_at` RFC 3339 UTC with microseconds.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    reason: str
    stage: str
    error: str
    message: str
    failed_at: str

    @property
    def origin(self) -> str:
        """The refused record's topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


encode_dead_letter: Final = msgspec.json.Encoder().encode
decode_dead_letter: Final = msgspec.json.Decoder(DeadLetter).decode


def dead_letter(record: InputRecord, error: PoisonRecordError, now_us: int) -> DeadLetter:
    """Returns the dead letter of a record. `now_us`: when it was refused, in microseconds since the epoch."""
    failed_at = (_EPOCH + timedelta(microseconds=now_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        reason=error.reason,
        stage=error.stage,
        error=type(error).__name__,
        message=str(error),
        failed_at=failed_at,
    )
