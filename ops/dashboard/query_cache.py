"""One place where pages get their answers: asked at most so often for all browsers together, and never shown without their age.

While the warehouse is away, an answer is the last good one with the time it was read, or none; and since when, and why, there is no newer.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from app.errors import SettingsError
from ops.dashboard.warehouse import Session
from sinks.base import SinkUnavailableError
from sinks.reading import MissingObjectError, StatementRefusedError, StatementTimeoutError

Value = TypeVar("Value")

NOT_BUILT: Final = "a table that this page reads is not there, or not for this role"

MAX_CACHED: Final = 128
"""Answers kept, those asked for least recently go first."""
PAUSE: Final = 10
"""After an answer its question rests for at least so many times as long as it took: the warehouse has other work."""


@dataclass(frozen=True)
class QueryResult(Generic[Value]):
    """What is known. With a problem, `value` is what was last known before it, or None."""

    value: Value | None
    read_at: datetime | None
    problem: str | None = None
    since: datetime | None = None
    """The first failure after the last good answer."""
    not_built: bool = False
    """The warehouse answers, but a table that was asked for has not been made yet."""

    @property
    def fresh(self) -> bool:
        """Whether `value` is the present."""
        return self.problem is None


class QueryCache:
    """Answers questions by name. Safe for threads; one statement at a time, in one session."""

    def __init__(
        self,
        session: Session,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._clock, self._ticks = session, clock, ticks
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[Any, ...], tuple[float, float, QueryResult[Any]]] = OrderedDict()
        self._away_since: datetime | None = None

    def get(self, question: Callable[..., Value], *arguments: object, every_s: float) -> QueryResult[Value]:
        """`question(session, now, *arguments)`, or its last answer if that is younger than `every_s` or took long."""
        name = (question.__name__, *arguments)
        with self._lock:
            answered_at, pause_s, known = self._answers.get(name, (float("-inf"), 0.0, QueryResult(None, None)))
            began = self._ticks()
            if began - answered_at < max(every_s, pause_s):
                return known
            answer = self._ask(question, arguments, known)
            ended = self._ticks()
            self._answers[name] = (ended, PAUSE * (ended - began) if answer.fresh else 0.0, answer)
            self._answers.move_to_end(name)
            while len(self._answers) > MAX_CACHED:
                self._answers.popitem(last=False)
            return answer

    def _ask(
        self, question: Callable[..., Value], arguments: tuple[object, ...], known: QueryResult[Value]
    ) -> QueryResult[Value]:
        now = self._clock()
        try:
            value = question(self._session, now, *arguments)
        except MissingObjectError:
            self._away_since = None
            return QueryResult(None, None, NOT_BUILT, known.since if known.not_built else now, not_built=True)
        except (SinkUnavailableError, SettingsError) as error:
            self._away_since = self._away_since or now
            return QueryResult(known.value, known.read_at, str(error), self._away_since)
        except StatementRefusedError as error:
            self._away_since = None
            return QueryResult(known.value, known.read_at, _refusal(error), known.since or now)
        self._away_since = None
        return QueryResult(value, now)


def _refusal(error: StatementRefusedError) -> str:
    """Without the warehouse's words, which may quote the statement and its values."""
    if isinstance(error, StatementTimeoutError):
        return str(error)
    return f"the warehouse refuses the question (error {error.number})"
