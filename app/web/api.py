"""Defines the endpoints. Each finds the key's owner, reads committed state there, and masks personal data unless the token has `pii`."""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from app.config.settings import ApiSettings
from app.domain.changes import Row
from app.domain.scd2 import RowState
from app.domain.times import format_us, parse_us
from app.web import metrics
from app.web.alerts import AlertStream, AlertStreams, RecentAlerts
from app.web.audit import AuditLog
from app.web.forwarding import REQUEST_ID, Forwarder
from app.web.guard import Guard, RequestContext, internal_error
from app.web.masking import masked
from app.web.partition_router import ACCOUNT, CUSTOMER, LocalWorker, LookupEntity, PartitionRouter
from app.web.problems import Problem, ProblemError, not_found, unavailable
from app.web.rate_limiter import RateLimiter
from app.web.responses import Alerts, Health, RowNow, State, VelocityNow, Version, Versions, components
from app.web.tokens import Tokens
from app.web.version_history import PastVersion, VersionSource, version_history
from app.web.windows import windows_at
from tables.rows import ACCOUNTS, CUSTOMERS, RowTable

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
STREAM_PATH: Final = "/v1/alerts/stream"
MAX_KEY: Final = (1 << 63) - 1
TABLES: Final[dict[str, RowTable]] = {CUSTOMER.table: CUSTOMERS, ACCOUNT.table: ACCOUNTS}
ERRORS: Final = {
    400: "the request cannot be answered in this form",
    401: "the token is missing or unknown",
    403: "the token lacks the scope",
    404: "not found",
    410: "deleted, or no longer in the log",
    413: "requests have no body",
    422: "a parameter is invalid, or the answer would be too large",
    429: "too many requests",
    503: "temporarily unavailable, for example during a rebalance. Try again after Retry-After",
}

Key = Annotated[int, Path(ge=-MAX_KEY - 1, le=MAX_KEY, examples=[42])]
Limit = Annotated[int, Query(ge=1, le=500, description="maximum number, newest first")]
Moment = Annotated[
    str,
    Query(
        max_length=40,
        description="RFC 3339 instant; without an offset it is UTC",
        examples=["2026-03-02T09:00:00Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
OneCustomer = Annotated[
    int | None, Query(ge=-MAX_KEY - 1, le=MAX_KEY, description="only this customer's alerts", examples=[42])
]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The parts that the API is built from. Tests pass their own."""

    settings: ApiSettings
    worker: LocalWorker
    partitions: int
    tokens: Tokens
    audit: AuditLog
    forwarder: Forwarder
    versions: VersionSource
    recent: RecentAlerts
    live: AlertStreams
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000


class _StreamResponse(StreamingResponse):
    """Server-sent events. Closes the stream even if the client disconnects before the first byte."""

    def __init__(self, stream: AlertStream) -> None:
        super().__init__(stream.events(), media_type=None, headers={"content-type": "text/event-stream"})
        self._stream = stream

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send until the stream ends or the client disconnects."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.close()


def make_api(parts: Dependencies) -> Guard:
    """Builds the ASGI app."""
    settings = parts.settings
    api = FastAPI(
        title="bankstream lookups",
        version="1",
        description="Committed state of the streams workers. Any worker answers for any key. Money is text, times are RFC 3339 UTC.",
        docs_url=None,  # its pages load scripts from other hosts
        redoc_url=None,
        openapi_url=None,
    )
    _handle_errors(api)
    endpoints = Endpoints(parts)
    lookup, alerts, scraping = (Depends(scoped(scope)) for scope in ("lookup", "alerts", "metrics"))
    bearer = Depends(HTTPBearer(auto_error=False, description="created by `bankstream api-token`"))
    kinds = (RowNow, VelocityNow, Versions, Version, Alerts, Health, Problem)
    *schemas, parts_of_them = components(*kinds)
    refs: dict[Any, dict[str, Any]] = dict(zip(kinds, schemas, strict=True))

    def get(path: str, answer: Any, *errors: int, needs: Any = None, media: str = JSON, **more: Any) -> Any:
        content = {media: {"schema": refs[answer] if answer is not None else {"type": "string"}}}
        stated: dict[int | str, dict[str, Any]] = {200: {"description": "the answer", "content": content}}
        shared = (413, 422, 503) if needs is None else (401, 403, 413, 422, 429, 503)
        for code in sorted({*shared, *errors}):
            stated[code] = {"description": ERRORS[code], "content": {PROBLEM: {"schema": refs[Problem]}}}
        return api.get(
            path,
            responses=stated,
            response_class=Response,
            dependencies=[] if needs is None else [bearer, needs],
            **more,
        )

    get("/v1/customers/{customer_id}", RowNow, 404, 410, needs=lookup)(endpoints.customer)
    get("/v1/accounts/{account_id}", RowNow, 404, 410, needs=lookup)(endpoints.account)
    get("/v1/customers/{customer_id}/velocity", VelocityNow, 404, needs=lookup)(endpoints.velocity)
    get("/v1/customers/{customer_id}/versions", Versions, 404, needs=lookup)(endpoints.customer_versions)
    get("/v1/accounts/{account_id}/versions", Versions, 404, needs=lookup)(endpoints.account_versions)
    get("/v1/customers/{customer_id}/versions/as-of", Version, 404, needs=lookup)(endpoints.customer_as_of)
    get("/v1/accounts/{account_id}/versions/as-of", Version, 404, needs=lookup)(endpoints.account_as_of)
    get("/v1/alerts", Alerts, needs=alerts)(endpoints.alerts)
    get(STREAM_PATH, None, 400, 410, needs=alerts, media="text/event-stream")(endpoints.stream)
    get("/metrics", None, needs=scraping, media="text/plain")(endpoints.metrics)
    get("/healthz", Health)(endpoints.health)
    get("/readyz", Health)(endpoints.readiness)
    document: list[bytes] = []

    @api.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        """Returns the OpenAPI document."""
        if not document:
            found = api.openapi()
            found.setdefault("components", {}).setdefault("schemas", {}).update(parts_of_them)
            _without_fastapis_own_errors(found)
            document.append(msgspec.json.encode(found))
        return Response(document[0], media_type=JSON)

    return Guard(
        api,
        tokens=parts.tokens,
        rates=RateLimiter(),
        audit=parts.audit,
        rate_per_s=settings.rate_per_s,
        total_per_s=settings.total_per_s,
        timeout_s=partial(timeout_of, settings),
        new_id=lambda: uuid.uuid4().hex,
        now_us=parts.now_us,
    )


def timeout_of(settings: ApiSettings, path: str) -> float:
    """Returns the time limit of an answer, here or at the worker that owns the key. Versions get more: they are in the warehouse."""
    return settings.history_timeout_s if "/versions" in path else settings.timeout_s


def request_context(request: Request) -> RequestContext:
    """Returns the guard's data about a request."""
    context: RequestContext = request.state.request_context
    return context


def scoped(scope: str) -> Callable[[Request], Awaitable[None]]:
    """Returns a dependency that raises ProblemError 403 unless the token has the scope."""

    async def check(request: Request) -> None:  # FastAPI would run a function that is not async in a thread
        client = request_context(request).client
        if client is None or scope not in client.scopes:
            raise ProblemError(HTTPStatus.FORBIDDEN, f"The token lacks the scope {scope}.")

    return check


class Endpoints:
    """The request handlers. Their docstrings are the descriptions in OpenAPI."""

    def __init__(self, parts: Dependencies) -> None:
        self._parts = parts
        self._router = PartitionRouter(parts.worker, parts.partitions)

    async def customer(self, request: Request, customer_id: Key) -> Response:
        """The customer's row as of the last committed change. 410 if it was deleted."""
        return await self._for(request, CUSTOMER, customer_id, self._row)

    async def account(self, request: Request, account_id: Key) -> Response:
        """The account's row as of the last committed change. 410 if it was deleted."""
        return await self._for(request, ACCOUNT, account_id, self._row)

    async def velocity(self, request: Request, customer_id: Key) -> Response:
        """Exact counts and amounts of the customer's transactions in the windows that end now."""
        return await self._for(request, CUSTOMER, customer_id, self._velocity)

    async def customer_versions(self, request: Request, customer_id: Key, limit: Limit = 100) -> Response:
        """The customer's versions, newest first. 503 until the latest one has reached the warehouse."""
        return await self._for(request, CUSTOMER, customer_id, self._versions(limit))

    async def account_versions(self, request: Request, account_id: Key, limit: Limit = 100) -> Response:
        """The account's versions, newest first. 503 until the latest one has reached the warehouse."""
        return await self._for(request, ACCOUNT, account_id, self._versions(limit))

    async def customer_as_of(self, request: Request, customer_id: Key, moment: Moment) -> Response:
        """The version of the customer that was valid at a moment. 404 if it did not exist then."""
        return await self._for(request, CUSTOMER, customer_id, self._as_of(moment))

    async def account_as_of(self, request: Request, account_id: Key, moment: Moment) -> Response:
        """The version of the account that was valid at a moment. 404 if it did not exist then."""
        return await self._for(request, ACCOUNT, account_id, self._as_of(moment))

    async def alerts(self, request: Request, limit: Limit = 50, customer_id: OneCustomer = None) -> Response:
        """The most recent alerts that the worker has in memory, newest first."""
        request_context(request).key = customer_id
        newest, last = self._parts.recent.newest(limit, customer_id)
        return self._json(Alerts(newest, last))

    async def stream(
        self,
        request: Request,
        customer_id: OneCustomer = None,
        last_event_id: Annotated[str | None, Header(max_length=8192, examples=["0:119,1:87,2:140,3:98"])] = None,
    ) -> Response:
        """New alerts as server-sent events. With Last-Event-ID, first every alert since that event, exactly once.

        410 if that event is no longer in the log.
        """
        context = request_context(request)
        context.key = customer_id

        def allowed() -> bool:
            client = self._parts.tokens.client(context.token)
            return client is not None and "alerts" in client.scopes

        return _StreamResponse(await self._parts.live.open(last_event_id, customer_id, allowed))

    async def metrics(self) -> Response:
        """The metrics of this worker, for Prometheus."""
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def health(self) -> Response:
        """200 while the process responds."""
        return self._json(Health("alive"))

    async def readiness(self) -> Response:
        """200 while all partitions assigned to the worker are open; 503 before that, and during a rebalance."""
        if not self._parts.worker.is_ready:
            raise unavailable("Not all partitions assigned to this worker are open yet.")
        return self._json(Health("ready"))

    async def _for(
        self,
        request: Request,
        kind: LookupEntity,
        key: int,
        answer: Callable[[RequestContext, LookupEntity, int], Awaitable[Any]],
    ) -> Response:
        """Returns the answer of this worker, or of the worker that owns the key."""
        context = request_context(request)
        context.key = key
        context.clear = context.client is not None and "pii" in context.client.scopes
        url = None if context.forwarded else self._router.remote_url(kind, key)
        if url is None:
            return self._json(await answer(context, kind, key))
        metrics.FORWARDED.inc()
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {"authorization": context.headers["authorization"], REQUEST_ID: context.request_id}
        timeout_s = timeout_of(self._parts.settings, request.url.path)
        found = await self._parts.forwarder.get(url, path, headers, timeout_s=timeout_s)
        return Response(found.body, found.status, dict(found.headers))

    def _state(self, kind: LookupEntity, key: int) -> tuple[RowState, State]:
        """Returns the row, even if it was deleted. Raises ProblemError 404 if there never was one."""
        state, number = self._router.local_state(kind, key)
        row = state.get(TABLES[kind.table], (key,))
        if row is None:
            raise not_found(f"There is no such {kind.table.removesuffix('s')}.")
        return row, State(kind.group, number, dict(state.positions))

    async def _row(self, context: RequestContext, kind: LookupEntity, key: int) -> RowNow:
        row, state = self._state(kind, key)
        if not row.alive:
            raise ProblemError(
                HTTPStatus.GONE, f"The row was deleted at {format_us(row.since_us)}; its versions are still available."
            )
        attributes, hidden = _shown(context, kind, row.attributes)
        return RowNow(key, row.version_id, format_us(row.since_us), attributes, hidden, state)

    async def _velocity(self, _: RequestContext, kind: LookupEntity, key: int) -> VelocityNow:
        now_us = self._parts.now_us()
        state, number = self._router.local_state(kind, key)
        windows, known = windows_at(state, key, now_us, self._parts.settings.velocity_max_events)
        if not known and state.get(CUSTOMERS, (key,)) is None:
            raise not_found("There is no such customer.")
        complete = None not in windows.values()
        return VelocityNow(key, format_us(now_us), windows, complete, State(kind.group, number, dict(state.positions)))

    def _versions(self, limit: int) -> Callable[[RequestContext, LookupEntity, int], Awaitable[Versions]]:
        async def answer(context: RequestContext, kind: LookupEntity, key: int) -> Versions:
            row, state = self._state(kind, key)
            found = await version_history(self._parts.versions, kind.table, kind.key, key, row)
            newest = found[: -limit - 1 : -1]
            return Versions(key, [_version(context, kind, one) for one in newest], len(found), state)

        return answer

    def _as_of(self, moment: str) -> Callable[[RequestContext, LookupEntity, int], Awaitable[Version]]:
        try:
            moment_us = parse_us(moment)
        except (ValueError, OverflowError):
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "moment must be an RFC 3339 instant, such as 2026-03-02T09:00:00Z (write + as %2B).",
            ) from None
        if moment_us > self._parts.now_us():
            raise not_found("That moment is in the future.")

        async def answer(context: RequestContext, kind: LookupEntity, key: int) -> Version:
            row, _ = self._state(kind, key)
            found = await version_history(self._parts.versions, kind.table, kind.key, key, row)
            held = next((one for one in reversed(found) if one.holds(format_us(moment_us))), None)
            if held is None:
                raise not_found("The row did not exist at that moment.")
            return _version(context, kind, held)

        return answer

    def _json(self, answer: Any) -> Response:
        body = msgspec.json.encode(answer)
        if len(body) > self._parts.settings.max_answer_bytes:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"The answer has {len(body)} bytes, which is over the limit. Request fewer items with `limit`.",
            )
        return Response(body, media_type=JSON)


def _shown(context: RequestContext, kind: LookupEntity, row: Row) -> tuple[Row, list[str]]:
    return (row, []) if context.clear else masked(kind.table, row)


def _version(context: RequestContext, kind: LookupEntity, version: PastVersion) -> Version:
    opened, closed = version.opened, version.closed
    attributes, hidden = _shown(context, kind, opened.attributes)
    return Version(
        opened.version_id, version.valid_from, version.valid_to, attributes, opened.changed, opened.reason,
        None if closed is None else closed.reason, hidden,
    )  # fmt: skip


def _handle_errors(api: FastAPI) -> None:
    """Turns FastAPI's and Starlette's own errors into problem details."""

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = sorted({".".join(map(str, problem["loc"][1:2])) for problem in error.errors()})  # never the input
        return _problem(
            ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"invalid: {', '.join(places)}. See /openapi.json.")
        )

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        return _problem(ProblemError(status, "See /openapi.json for the available requests.", error.headers))

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return _problem(error)

    async def unforeseen(request: Request, _: Exception) -> Response:
        return _problem(internal_error(request_context(request)))

    api.add_exception_handler(Exception, unforeseen)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, http)
    api.add_exception_handler(ProblemError, problem)


def _problem(error: ProblemError) -> Response:
    return Response(error.body, int(error.status), error.headers, media_type=PROBLEM)


def _without_fastapis_own_errors(document: dict[str, Any]) -> None:
    """Removes FastAPI's schemas of validation errors, because the API answers with problem details instead."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
