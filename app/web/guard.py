"""Checks every request before its endpoint: token, rate and time limit, and writes the audit before the answer is sent.

It is an ASGI middleware, so that it also covers requests that reach no endpoint: unknown paths, requests with a body, slow handlers.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from app.domain.times import format_us
from app.web import metrics
from app.web.audit import AuditEntry, AuditLog
from app.web.forwarding import HOP, REQUEST_ID
from app.web.problems import ProblemError, unavailable
from app.web.rate_limiter import RateLimiter
from app.web.tokens import Client, Tokens

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Paths that need no token. Their answers contain nothing about customers."""
LOOKUPS: Final = "/v1/"
"""Prefix of the paths to which the limit of all clients together applies. Monitoring is outside it, so that it is never refused by it."""
EVERYBODY: Final = "everybody"
FAILURES_PER_S: Final = 5
"""Limit of wrong tokens per second from one address. Above it they get 429 and no line in the audit."""
NOBODY: Final = "-"
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'"),
)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(slots=True)
class RequestContext:
    """One request with its id, client and key, as the endpoints and the audit use it."""

    request_id: str
    started_ns: int
    headers: Mapping[str, str] = field(repr=False)
    client: Client | None = None
    token: str = field(default="", repr=False)
    """The client's token."""
    key: int | None = None
    clear: bool = False
    """Whether personal data is sent unmasked."""

    @property
    def forwarded(self) -> bool:
        """Whether another worker forwarded the request."""
        return HOP in self.headers


def internal_error(context: RequestContext) -> ProblemError:
    """Returns the 500 for an unexpected error."""
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"Internal error. The worker's log has it under request {context.request_id}."
    )


class _UnauditedError(Exception):
    """The answer was withheld because the audit could not be written."""


class Guard:
    """The ASGI middleware around the API. The clock and the source of request ids are passed in."""

    def __init__(
        self,
        app: AsgiApp,
        *,
        tokens: Tokens,
        rates: RateLimiter,
        audit: AuditLog,
        rate_per_s: int,
        total_per_s: int,
        timeout_s: Callable[[str], float],
        new_id: Callable[[], str],
        now_us: Callable[[], int],
    ) -> None:
        self._app, self._tokens, self._rates, self._audit = app, tokens, rates, audit
        self._rate_per_s, self._total_per_s = rate_per_s, total_per_s
        self._timeout_s, self._new_id, self._now_us = timeout_s, new_id, now_us

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(REQUEST_ID, "")
        context = RequestContext(
            given if _REQUEST_ID.fullmatch(given) else self._new_id(), time.perf_counter_ns(), headers
        )
        scope.setdefault("state", {})["request_context"] = context
        answer = _Answer(self, scope, context, send)
        try:
            async with asyncio.timeout(self._timeout_s(scope["path"])) as limit:
                answer.limit = limit
                self._admit(scope, context)
                await self._app(scope, receive, answer.send)
        except _UnauditedError:
            pass
        except ProblemError as error:
            await answer.problem(error)
        except TimeoutError:
            await answer.problem(unavailable("The answer took longer than its time limit. Try again in a moment."))
        except Exception:
            logger.exception("request %s to %s failed", context.request_id, answer.endpoint)
            if not answer.finished:  # Starlette has sent an answer, and raises the error nevertheless
                await answer.problem(internal_error(context))

    def record(self, context: RequestContext, method: str, endpoint: str, status: int) -> None:
        """Write the line of the audit. Raises OSError if that fails."""
        self._audit.write(
            AuditEntry(
                time=format_us(self._now_us()),
                request_id=context.request_id,
                client=context.client.name if context.client is not None else NOBODY,
                method=method,
                endpoint=endpoint,
                status=status,
                duration_ms=(time.perf_counter_ns() - context.started_ns) / 1_000_000,
                key=context.key,
                clear=context.clear and status == HTTPStatus.OK,
                forwarded=context.forwarded,
            )
        )

    def _admit(self, scope: Scope, context: RequestContext) -> None:
        """Raises ProblemError for a request that is not admitted."""
        if context.headers.get("content-length", "0") != "0" or "transfer-encoding" in context.headers:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "No endpoint takes a body.", {"Connection": "close"}
            )
        if scope["path"] in OPEN_PATHS:
            return
        kind, _, token = context.headers.get("authorization", "").partition(" ")
        context.token = token.strip()
        context.client = self._tokens.client(context.token) if kind.lower() == "bearer" and token else None
        if context.client is None:
            address = (scope.get("client") or ("",))[0]
            _turn_away(self._rates.wait_s(f"address:{address}", FAILURES_PER_S))
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "Send a valid token: Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        _turn_away(self._rates.wait_s(f"client:{context.client.name}", context.client.rate_per_s or self._rate_per_s))
        if scope["path"].startswith(LOOKUPS) and (wait_s := self._rates.wait_s(EVERYBODY, self._total_per_s)):
            raise unavailable(
                "This worker has reached its limit of lookups from all clients, because stream processing has priority.",
                ceil(wait_s),
            )


def _turn_away(wait_s: float) -> None:
    if wait_s > 0:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Too many requests with this token or from this address.",
            {"Retry-After": str(ceil(wait_s))},
        )


def _messages(error: ProblemError) -> tuple[Message, Message]:
    """Returns a problem as two ASGI messages: head and body."""
    body = error.body
    headers = {"content-type": "application/problem+json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return (
        {"type": "http.response.start", "status": int(error.status), "headers": pairs},
        {"type": "http.response.body", "body": body},
    )


class _Answer:
    """Sends an answer, and writes the audit before its head is sent."""

    def __init__(self, guard: Guard, scope: Scope, context: RequestContext, send: Send) -> None:
        self._guard, self._scope, self._context, self._send = guard, scope, context, send
        self.limit: asyncio.Timeout | None = None
        self._started = False
        self.finished = False

    @property
    def endpoint(self) -> str:
        """The path's template, without the values in the path."""
        route = self._scope.get("route")
        return str(route.path) if route is not None else "unknown"

    async def send(self, message: Message) -> None:
        """ASGI's send. Raises _UnauditedError after it has replaced the answer by a 503."""
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", []))
            self._count(status)
            if not self._audited(status):
                await self._withhold()
            if (b"content-type", b"text/event-stream") in headers and self.limit is not None:
                self.limit.reschedule(None)  # a stream has no time limit
            self._started = True
            message = {
                **message,
                "headers": [*headers, *HEADERS, (REQUEST_ID.encode(), self._context.request_id.encode())],
            }
        elif message["type"] == "http.response.body":
            self.finished = not message.get("more_body", False)
        await self._send(message)

    async def problem(self, error: ProblemError) -> None:
        """Answer with an error. If the answer has begun, raise it: the connection is cut, so the client sees an incomplete answer."""
        if self._started:
            raise error
        start, body = _messages(error)
        try:
            await self.send(start)
            await self._send(body)
        except _UnauditedError:
            pass

    def _count(self, status: int) -> None:
        metrics.REQUESTS.labels(self.endpoint, status).inc()
        metrics.SECONDS.labels(self.endpoint).observe((time.perf_counter_ns() - self._context.started_ns) / 1e9)

    def _audited(self, status: int) -> bool:
        if self._scope["path"] in OPEN_PATHS or (
            status == HTTPStatus.TOO_MANY_REQUESTS and self._context.client is None
        ):
            return True
        try:
            self._guard.record(self._context, self._scope["method"], self.endpoint, status)
        except OSError as error:
            metrics.UNAUDITED.inc()
            logger.critical("an answer was withheld because the audit cannot be written: %s", error.strerror or error)
            return False
        return True

    async def _withhold(self) -> None:
        start, body = _messages(unavailable("The audit cannot be written, so the answer is withheld.", 10))
        self._started = True
        await self._send({**start, "headers": [*start["headers"], *HEADERS]})
        await self._send(body)
        raise _UnauditedError
