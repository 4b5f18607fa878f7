"""Defines the error answers as RFC 9457 problem details. They never quote the request."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """The body of an error. `detail` says what was wrong and what to do."""

    status: int
    title: str
    detail: str
    type: str = "about:blank"


class ProblemError(Exception):
    """Ends a request with an error status."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    @property
    def body(self) -> bytes:
        """The problem as JSON."""
        return msgspec.json.encode(Problem(self.status, self.status.phrase, self.detail))


def unavailable(detail: str, seconds: int = 1) -> ProblemError:
    """Returns a 503 with `Retry-After`: the same request can succeed after `seconds`."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(seconds)})


def not_found(detail: str) -> ProblemError:
    """Returns a 404."""
    return ProblemError(HTTPStatus.NOT_FOUND, detail)
