"""Caches query results for all browsers together, limits how often a query runs, and keeps the age of every result.

While the warehouse is unreachable, a result is the last good one with the time it was read, or none, together with the problem and the
time of its first failure.
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

NOT_BUILT: Final = "a table that this page reads does not exist, or this role may not read it"

MAX_CACHED: Final = 128
"""The maximum number of cached results; the least recently queried are evicted."""
PAUSE: Final = 10
"""A query runs again only after this multiple of its duration, because the warehouse has other work."""


@dataclass(frozen=True)
class QueryResult(Generic[Value]):
    """A query result. With a problem, `value` is the last good value, or None."""

    value: Value | None
    read_at: datetime | None
    problem: str | None = None
    since: datetime | None = None
    """The time of the first failure after the last good result."""
    not_built: bool = False
    """The warehouse answers, but a queried table has not been created yet."""

    @property
    def fresh(self) -> bool:
        """Whether `value` is current."""
        return self.problem is None


class QueryCache:
    """Runs and caches queries by function name and arguments. Thread-safe; one statement at a time, in one session."""

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
        """Returns `question(session, now, *arguments)`, or its cached result within `every_s` or PAUSE times the query's duration."""
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
    """Returns a message without the warehouse's own text, which may quote the statement and its values."""
    if isinstance(error, StatementTimeoutError):
        return str(error)
    return f"the warehouse rejects the query (error {error.number})"
