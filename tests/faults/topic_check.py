"""Checks that a derived topic has each record of the recomputation once, byte for byte, in order, and no other record."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition

from app.engine.memory import EmittedRecord
from tests.faults.violations import Violations

CLOCKS: Final = re.compile(rb'"(detected_at|failed_at)":"[^"]*"')
"""The fields from a worker's clock, which are no function of the input."""
IDENTITY: Final = re.compile(
    rb'"(?:alert_id|version_id|op|reason)":"[^"]*"|"topic":"bank[^}]*?"offset":\d+|"transaction_id":\d+|"account_id":\d+'
)
MOST_DIFFERENCES: Final = 5


def normal(value: bytes | None) -> bytes:
    """A value without the fields from the clock."""
    return b"null" if value is None else CLOCKS.sub(b"", value)


def identity(key: bytes | None, value: bytes | None) -> bytes:
    """The subject and the source of a record. Of two records with equal identity, one is a duplicate or wrong."""
    return b"%b %b" % (key or b"", b" ".join(sorted(set(IDENTITY.findall(value or b"")))))


@dataclass
class Held:
    """Compares the expected with the actual records of a topic partition whose order is determined."""

    tp: TopicPartition
    expected: list[tuple[bytes, int]] = field(default_factory=list)
    actual: list[tuple[bytes, int, int]] = field(default_factory=list)
    """From the first difference on: (identity, hash), and the offset of actual records."""

    @property
    def differs(self) -> bool:
        """Whether a difference was found."""
        return bool(self.expected or self.actual)

    def compare(self, outputs: Sequence[EmittedRecord], records: Sequence[Any]) -> None:
        """Compares the next expected records with the same number of actual ones."""
        if (
            not self.differs
            and len(outputs) == len(records)
            and all(
                output.key == record.key
                and (output.value == record.value or normal(output.value) == normal(record.value))
                for output, record in zip(outputs, records, strict=True)
            )
        ):
            return
        self.expected += [(identity(o.key, o.value), hash(normal(o.value))) for o in outputs]
        self.actual += [(identity(r.key, r.value), hash(normal(r.value)), r.offset) for r in records]

    def judge(self, verdict: Violations) -> None:
        """Adds the differences to `verdict`, and resets them."""
        if self.differs:
            difference(f"{self.tp.topic}/{self.tp.partition}", self.expected, self.actual, verdict)
            self.expected, self.actual = [], []


def difference(
    where: str, expected: Iterable[tuple[bytes, int]], actual: Iterable[tuple[bytes, int, int]], verdict: Violations
) -> None:
    """Adds what is lost, duplicated, wrong or out of order between two lists of records."""
    must, there = list(expected), list(actual)
    count_must, count_there = Counter(name for name, _ in must), Counter(name for name, _, _ in there)
    offsets: dict[bytes, list[int]] = defaultdict(list)
    for name, _, offset in there:
        offsets[name].append(offset)
    lost, doubled = count_must - count_there, count_there - count_must
    if lost:
        verdict.add(f"{where} lacks {lost.total()}, such as {_some(lost)}", lost=lost.total())
    if doubled:
        places = [(name.decode(errors="replace"), offsets[name]) for name in list(doubled)[:MOST_DIFFERENCES]]
        verdict.add(f"{where} has {doubled.total()} too many, such as {places}", doubled=doubled.total())
    wrong = Counter(must) - Counter((name, content) for name, content, _ in there)
    wrong = Counter({(name, content): n for (name, content), n in wrong.items() if name not in lost})
    if wrong:
        places = [(name.decode(errors="replace"), offsets[name]) for name, _ in list(wrong)[:MOST_DIFFERENCES]]
        verdict.add(f"{where} has other content in {wrong.total()}, such as {places}", wrong=wrong.total())
    if not (lost or doubled or wrong):
        first = next(
            (offset for (name, _), (found, _, offset) in zip(must, there, strict=True) if name != found), there[0][2]
        )
        verdict.add(f"{where} has the right records in another order, from offset {first} on", wrong=1)


def _some(names: Counter[bytes]) -> list[str]:
    return [name.decode(errors="replace") for name in list(names)[:MOST_DIFFERENCES]]
