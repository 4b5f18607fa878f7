"""Reads the dead-letter topic."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.config.settings import KafkaSettings
from app.config.topics import DEAD_LETTERS
from app.engine.committed_reader import read_all_committed
from app.engine.dead_letters import DeadLetter, decode_dead_letter
from app.engine.kafka import KafkaLog
from app.errors import BankstreamError, one_line


class DeadLetterError(BankstreamError):
    """A dead letter does not exist, or cannot be redriven."""


@dataclass(frozen=True, slots=True)
class NamedDeadLetter:
    """A dead letter and its name: its position on the dead-letter topic, `partition/offset`."""

    name: str
    letter: DeadLetter

    def is_of(self, topic: str | None, reason: str | None) -> bool:
        """Returns whether the record was rejected on this topic for this reason; None matches any."""
        return (not topic or topic == self.letter.topic) and (not reason or reason == self.letter.reason)


async def find(kafka: KafkaSettings, *, topic: str | None = None, reason: str | None = None) -> list[NamedDeadLetter]:
    """Returns the dead letters in the order of partition and offset. `topic` is the topic of the rejected record."""
    async with KafkaLog(kafka) as log:
        infos = await log.require([DEAD_LETTERS.name])
    tps = [TopicPartition(DEAD_LETTERS.name, number) for number in range(infos[DEAD_LETTERS.name].partitions)]
    found = [
        one
        async for record in read_all_committed(kafka, tps)
        if record.value is not None
        and (one := NamedDeadLetter(f"{record.partition}/{record.offset}", decode_dead_letter(record.value))).is_of(
            topic, reason
        )
    ]
    return sorted(found, key=_position)


@contextmanager
def kafka_errors_as_dead_letter_errors(kafka: KafkaSettings) -> Iterator[None]:
    """Raises a DeadLetterError that says what to do in the place of a KafkaError."""
    try:
        yield
    except KafkaError as error:
        raise DeadLetterError(
            f"Kafka at {kafka.bootstrap_servers} failed a request: {one_line(error)}. Check BANKSTREAM_KAFKA_*, and that Kafka runs."
        ) from error


def named(found: Iterable[NamedDeadLetter], name: str) -> NamedDeadLetter:
    """Returns the dead letter with this name. DeadLetterError if there is none."""
    for one in found:
        if one.name == name:
            return one
    raise DeadLetterError(
        f"there is no dead letter {name!r}. `bankstream dead-letters list` shows the names of all dead letters"
    )


def _position(found: NamedDeadLetter) -> tuple[int, int]:
    partition, offset = found.name.split("/")
    return int(partition), int(offset)
