"""The gate before every endpoint: who asks, how often, how long it may take, and that it is written down before it is answered.

An ASGI middleware, so that it also holds for what no endpoint ever sees: paths that do not exist, bodies, slow handlers.
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
"""What anyone may ask: none of it says anything about anybody."""
LOOKUPS: Final = "/v1/"
"""What all clients together may ask so often; who watches the worker is not turned away with them."""
EVERYBODY: Final = "everybody"
FAILURES_PER_S: Final = 5
"""Wrong tokens from one address; more are turned away unread, and leave no line in the audit."""
NOBODY: Final = "-"
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'"),
)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(slots=True)
class RequestContext:
    """One request, as the endpoints and the audit see it."""

    request_id: str
    started_ns: int
    headers: Mapping[str, str] = field(repr=False)
    client: Client | None = None
    token: str = field(default="", repr=False)
    """Of that client."""
    key: int | None = None
    clear: bool = False
    """Whether personal data goes out in clear."""

    @property
    def forwarded(self) -> bool:
        """Whether another worker asks."""
        return HOP in self.headers


def internal_error(look: RequestContext) -> ProblemError:
    """500: what is said of an error that nobody foresaw."""
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, f"A defect. The log has it as request {look.request_id}.")


class _UnauditedError(Exception):
    """The answer was withheld."""


class Guard:
    """Wraps the API. The clock and the request ids are passed in."""

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
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(REQUEST_ID, "")
        look = RequestContext(
            given if _REQUEST_ID.fullmatch(given) else self._new_id(), time.perf_counter_ns(), headers
        )
        scope.setdefault("state", {})["look"] = look
        answer = _Answer(self, scope, look, send)
        try:
            async with asyncio.timeout(self._timeout_s(scope["path"])) as limit:
                answer.limit = limit
                self._admit(scope, look)
                await self._app(scope, receive, answer.send)
        except _UnauditedError:
            pass
        except ProblemError as error:
            await answer.problem(error)
        except TimeoutError:
            await answer.problem(unavailable("This took longer than an answer may take. Ask again in a moment."))
        except Exception:
            logger.exception("request %s to %s failed", look.request_id, answer.endpoint)
            if not answer.finished:  # Starlette answers, and raises the error all the same
                await answer.problem(internal_error(look))

    def record(self, look: RequestContext, method: str, endpoint: str, status: int) -> None:
        """Write the audit's line. OSError if it cannot be."""
        self._audit.write(
            AuditEntry(
                time=format_us(self._now_us()),
                request_id=look.request_id,
                client=look.client.name if look.client is not None else NOBODY,
                method=method,
                endpoint=endpoint,
                status=status,
                duration_ms=(time.perf_counter_ns() - look.started_ns) / 1_000_000,
                key=look.key,
                clear=look.clear and status == HTTPStatus.OK,
                forwarded=look.forwarded,
            )
        )

    def _admit(self, scope: Scope, look: RequestContext) -> None:
        """ProblemError for whom is not let in."""
        if look.headers.get("content-length", "0") != "0" or "transfer-encoding" in look.headers:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "No endpoint takes a body.", {"Connection": "close"}
            )
        if scope["path"] in OPEN_PATHS:
            return
        kind, _, token = look.headers.get("authorization", "").partition(" ")
        look.token = token.strip()
        look.client = self._tokens.client(look.token) if kind.lower() == "bearer" and token else None
        if look.client is None:
            address = (scope.get("client") or ("",))[0]
            _turn_away(self._rates.wait_s(f"address:{address}", FAILURES_PER_S))
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "Send a token that is known here: Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
        _turn_away(self._rates.wait_s(f"client:{look.client.name}", look.client.rate_per_s or self._rate_per_s))
        if scope["path"].startswith(LOOKUPS) and (wait_s := self._rates.wait_s(EVERYBODY, self._total_per_s)):
            raise unavailable(
                "This worker answers no more lookups at a time, whoever asks: the stream goes first.", ceil(wait_s)
            )


def _turn_away(wait_s: float) -> None:
    if wait_s > 0:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Too many requests with this token or from this address.",
            {"Retry-After": str(ceil(wait_s))},
        )


def _messages(error: ProblemError) -> tuple[Message, Message]:
    """A problem as ASGI sends it: head and body."""
    body = error.body
    headers = {"content-type": "application/problem+json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return (
        {"type": "http.response.start", "status": int(error.status), "headers": pairs},
        {"type": "http.response.body", "body": body},
    )


class _Answer:
    """The way out: audits the head of an answer before it is sent."""

    def __init__(self, guard: Guard, scope: Scope, look: RequestContext, send: Send) -> None:
        self._guard, self._scope, self._look, self._send = guard, scope, look, send
        self.limit: asyncio.Timeout | None = None
        self._started = False
        self.finished = False

    @property
    def endpoint(self) -> str:
        """The path's template; nothing of what was asked."""
        route = self._scope.get("route")
        return str(route.path) if route is not None else "unknown"

    async def send(self, message: Message) -> None:
        """ASGI's send. _UnauditedError when the answer was replaced by a refusal."""
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", []))
            self._count(status)
            if not self._audited(status):
                await self._withhold()
            if (b"content-type", b"text/event-stream") in headers and self.limit is not None:
                self.limit.reschedule(None)  # its own rules apply
            self._started = True
            message = {
                **message,
                "headers": [*headers, *HEADERS, (REQUEST_ID.encode(), self._look.request_id.encode())],
            }
        elif message["type"] == "http.response.body":
            self.finished = not message.get("more_body", False)
        await self._send(message)

    async def problem(self, error: ProblemError) -> None:
        """Answer with an error, unless the answer has begun: then it is cut off, and the client sees that it is not whole."""
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
        metrics.SECONDS.labels(self.endpoint).observe((time.perf_counter_ns() - self._look.started_ns) / 1e9)

    def _audited(self, status: int) -> bool:
        if self._scope["path"] in OPEN_PATHS or (status == HTTPStatus.TOO_MANY_REQUESTS and self._look.client is None):
            return True
        try:
            self._guard.record(self._look, self._scope["method"], self.endpoint, status)
        except OSError as error:
            metrics.UNAUDITED.inc()
            logger.critical("an answer was withheld, since the audit cannot be written: %s", error.strerror or error)
            return False
        return True

    async def _withhold(self) -> None:
        start, body = _messages(unavailable("The audit cannot be written, so nothing is answered.", 10))
        self._started = True
        await self._send({**start, "headers": [*start["headers"], *HEADERS]})
        await self._send(body)
        raise _UnauditedError
