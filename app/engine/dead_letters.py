"""Dead letters: a record that could not be processed, kept byte for byte with where it came from and why."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record. `reason` is a short stable word for metrics, `stage` the step that refused it, `error` the exception class."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    stage: str
    error: str
    message: str
    headers: Sequence[tuple[str, bytes]] = ()


def encode_dead_letter(letter: DeadLetter, now_us: int) -> bytes:
    """The JSON on the dead-letter topic: key and value as base64, times as RFC 3339 UTC with microseconds."""
    return msgspec.json.encode(
        {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "key": _base64(letter.key),
            "value": _base64(letter.value),
            "headers": [[name, _base64(value)] for name, value in letter.headers],
            "reason": letter.reason,
            "stage": letter.stage,
            "error": letter.error,
            "message": letter.message,
            "failed_at": (_EPOCH + timedelta(microseconds=now_us))
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
        }
    )


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode("ascii")
