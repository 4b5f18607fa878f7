"""Serves the warehouse over HTTP: fakesnow's protocol, with checked logins, and with statements that run outside the event loop.

Differences from fakesnow's own server:
- The server checks user and password. There is no anonymous access; every route except the login requires a session's token.
- Clients can neither choose files of the server (FAKESNOW_DB_PATH) nor upload any (PUT): stages are external.
- Statements of one session never overlap, and no statement blocks the event loop.
- A repeated request (its reply was lost) gets the reply of the first, identified by the protocol's requestId.
- A failure inside the server is returned as an error of the statement, because clients retry HTTP 500 for minutes.
"""

import asyncio
import gzip
import json
import logging
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import fakesnow.server as protocol
import msgspec
import uvicorn
from fakesnow.expr import normalise_ident
from fakesnow.transforms import SERVER_VERSION
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.config.settings import WarehouseServerSettings
from app.local.stack.warehouse_server import fixes
from app.local.stack.warehouse_server.copy_statement import StagedFiles
from app.local.stack.warehouse_server.instance import PersistentFakeSnow
from app.local.stack.warehouse_server.sessions import Session, Sessions

log = logging.getLogger("warehouse")

IDLE_CHECK_S: Final = 1.0
ROLLBACK: Final = re.compile(r"\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*)*rollback\b", re.IGNORECASE | re.DOTALL)
FAILED: Final = "000603"
"""Snowflake's code for an internal error of a statement."""


class Failures(logging.Filter):
    """Keeps the reason from fakesnow's log record of a failed statement and removes the statement, which contains values."""

    def __init__(self) -> None:
        super().__init__()
        self._reasons = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record. fakesnow logs it in the thread that runs the statement."""
        error = record.exc_info[1] if record.exc_info else None
        reason = str(error).strip().partition("\n")[0]
        self._reasons.last = f"{type(error).__name__}: {reason}"
        record.msg, record.args = "a statement failed inside the server: %s", (type(error).__name__,)
        record.exc_info = record.exc_text = None
        return True

    def take(self) -> str:
        """Returns why the last statement of this thread failed."""
        reason: str = getattr(self._reasons, "last", "internal error")
        return reason


class Server:
    """The warehouse server."""

    def __init__(self, settings: WarehouseServerSettings) -> None:
        self._settings = settings
        fixes.apply(StagedFiles(settings) if settings.s3_endpoint_url else None)
        settings.directory.mkdir(exist_ok=True, mode=0o700)
        self._warehouse = PersistentFakeSnow(settings.directory, memory_mb=settings.memory_mb)
        self._sessions = Sessions(
            self._warehouse,
            settings.user,
            settings.password.get_secret_value(),
            settings.max_sessions,
            settings.idle_transaction_s,
        )
        protocol.sessions = self._sessions.connections()
        self._failures = Failures()
        protocol.logger.setLevel(logging.ERROR)
        protocol.logger.addFilter(self._failures)
        self.app = Starlette(
            routes=[
                Route("/session/v1/login-request", self._login, methods=["POST"]),
                Route("/session", self._session, methods=["POST"]),
                Route("/session/heartbeat", self._session, methods=["POST"]),
                Route("/queries/v1/query-request", self._query, methods=["POST"]),
                Route("/queries/v1/abort-request", self._abort, methods=["POST"]),
                Route("/monitoring/queries/{sfqid}", self._monitoring, methods=["GET"]),
            ],
            lifespan=self._lifespan,
        )

    def run(self) -> None:
        """Serve until SIGTERM."""
        sessions = self._sessions

        class Protocol(H11Protocol):
            """Notifies the sessions when a client's connection closes."""

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                if self.client is not None:
                    sessions.disconnected(self.client)

        uvicorn.Server(
            uvicorn.Config(
                self.app,
                host=self._settings.host,
                port=self._settings.port,
                http=Protocol,
                access_log=False,
                log_level="warning",
                timeout_keep_alive=3_600,  # a connection closed by the server would look like a client that disconnected
                timeout_graceful_shutdown=5,
            )
        ).run()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(self._end_idle_transactions())
        try:
            yield
        finally:
            watcher.cancel()
            await run_in_threadpool(self._sessions.close_all)
            await run_in_threadpool(self._warehouse.close)

    async def _end_idle_transactions(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            await run_in_threadpool(self._sessions.end_idle_transactions)

    async def _login(self, request: Request) -> Response:
        data = (await _body(request)).get("data") or {}
        if not self._sessions.authentic(data.get("LOGIN_NAME"), data.get("PASSWORD")):
            return _refused("390100", "Incorrect username or password was specified.")
        database, schema = (request.query_params.get(name) for name in ("databaseName", "schemaName"))
        autocommit = (data.get("SESSION_PARAMETERS") or {}).get("AUTOCOMMIT", True)
        session = await run_in_threadpool(
            self._sessions.open,
            database and normalise_ident(database),
            schema and normalise_ident(schema),
            autocommit=autocommit,
        )
        reply = {
            "token": session.token,
            "masterToken": session.token,
            "validityInSeconds": 3_600,
            "masterValidityInSeconds": 14_400,
            "sessionId": 1,
            "serverVersion": SERVER_VERSION,
            "parameters": [
                {"name": "AUTOCOMMIT", "value": autocommit},
                {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3_600},
                {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
            ],
            "sessionInfo": {
                "databaseName": session.connection.database if session.connection.database_set else None,
                "schemaName": session.connection.schema if session.connection.schema_set else None,
            },
        }
        return JSONResponse({"data": reply, "success": True})

    async def _session(self, request: Request) -> Response:
        session = self._of(request)
        if session is None:
            return _refused("390104", "User must login again to access the service.")
        if request.query_params.get("delete"):
            await run_in_threadpool(self._sessions.close, session.token)
        return JSONResponse({"data": None, "code": None, "message": None, "success": True})

    async def _monitoring(self, request: Request) -> Response:
        session = self._of(request)
        if session is None:
            return _refused("390104", "User must login again to access the service.")
        known = request.path_params["sfqid"] in session.connection.results_cache
        return JSONResponse({"data": {"queries": [{"status": "SUCCESS"}] if known else []}, "success": True})

    async def _abort(self, request: Request) -> Response:
        session = self._of(request)
        if session is None:
            return _refused("390104", "User must login again to access the service.")
        session.connection._duck_conn.interrupt()  # noqa: SLF001 - fakesnow has no way to cancel
        return JSONResponse({"data": None, "code": None, "message": None, "success": True})

    async def _query(self, request: Request) -> Response:
        session = self._of(request)
        if session is None:
            return _refused("390104", "User must login again to access the service.")
        if request.client is not None:
            session.peers.add((request.client.host, request.client.port))
        sql = str((await _body(request)).get("sqlText") or "")
        status, content = await run_in_threadpool(self._run, session, request, sql)
        return Response(content, status, media_type="application/json")

    def _run(self, session: Session, request: Request, sql: str) -> tuple[int, bytes]:
        """Runs one statement in its own thread with its own event loop, because fakesnow's handler does part of its work on the loop."""
        request_id = request.query_params.get("requestId", "")
        with session.lock:
            if request_id and request_id == session.last_request:
                return session.last_reply
            if session.aborted and not ROLLBACK.match(sql):
                return 200, _failure("000625", f"The transaction was rolled back: {session.aborted}. Send ROLLBACK.")
            session.aborted = ""
            reply = asyncio.run(protocol.query_request(request))
            status, content = reply.status_code, bytes(reply.body)
            if status >= 500:
                status, content = 200, _failure(FAILED, self._failures.take())
            session.last_request, session.last_reply = request_id, (status, content)
            if session.abandoned:
                session.abandoned = False
                session.roll_back("its client disconnected")
            return status, content

    def _of(self, request: Request) -> Session | None:
        header = request.headers.get("Authorization", "")
        match = re.fullmatch(r'Snowflake Token="([^"]*)"', header)
        return self._sessions.get(match[1]) if match else None


async def _body(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    content = json.loads(body)
    return content if isinstance(content, dict) else {}


def _refused(code: str, message: str) -> Response:
    return JSONResponse({"data": None, "code": code, "message": message, "success": False, "headers": None})


def _failure(code: str, message: str) -> bytes:
    return msgspec.json.encode(
        {"data": {"errorCode": code, "sqlState": "57014"}, "code": code, "message": message, "success": False}
    )
