"""Runs the API inside a worker: uvicorn on the worker's event loop, through Faust's ASGI bridge.

The socket is bound before the worker starts, so that a port in use is a settings error instead of a failure later.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import uvicorn
from aiokafka import TopicPartition
from faust.contrib.asgi import AsgiService
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.config.settings import ApiSettings, KafkaSettings, SnowflakeSettings
from app.config.topics import ALERTS
from app.engine.committed_state import CommittedState
from app.engine.faust_hooks import App
from app.errors import SettingsError
from app.web.alerts import AlertStreams, RecentAlerts
from app.web.api import Dependencies, make_api
from app.web.audit import AuditLog
from app.web.forwarding import Forwarder
from app.web.landing_reader import LandingReader
from app.web.tokens import Tokens

HEADER_TIMEOUT_S: Final = 10
"""A client that has not sent a complete request head after this time is disconnected."""
MAX_HEADER_BYTES: Final = 32 << 10
BACKLOG: Final = 128
GRACE_S: Final = 3
"""Time for running requests to finish when the worker stops."""


class _Protocol(H11Protocol):
    """Disconnects clients that connect and send no request. uvicorn itself waits for the first request forever."""

    _dawdling: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer when a client connects."""
        super().connection_made(transport)
        self._dawdling = self.loop.call_later(HEADER_TIMEOUT_S, self._hang_up, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer when the client disconnects."""
        if self._dawdling is not None:
            self._dawdling.cancel()
        super().connection_lost(exc)

    def _hang_up(self, transport: Any) -> None:
        if self.cycle is None:
            transport.close()


class _Worker:
    """Adapts the Faust app to the API. Implements `partition_router.LocalWorker`."""

    def __init__(self, app: App) -> None:
        self._app = app

    @property
    def is_ready(self) -> bool:
        return self._app.is_ready

    @property
    def url(self) -> str:
        return str(self._app.conf.canonical_url)

    def addresses(self) -> Mapping[TopicPartition, str]:
        return self._app.addresses()

    def committed(self, group_name: str, number: int) -> CommittedState | None:
        return self._app.engine.committed(group_name, number)


class ApiService(AsgiService):
    """Serves the API and reads the recent alerts until the worker stops."""

    def __init__(self, app: App, parts: Dependencies, listener: socket.socket, settings: ApiSettings) -> None:
        super().__init__(make_api(parts), host=settings.host, port=settings.port)
        self._faust, self._parts, self._listener, self._settings = app, parts, listener, settings
        self.opentelemetry = False

    def _create_server(self) -> uvicorn.Server:
        config = uvicorn.Config(
            self.asgi_app,
            loop="none",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=self._settings.max_connections,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            ssl_certfile=self._settings.tls_certfile,
            ssl_keyfile=self._settings.tls_keyfile,
        )
        server = uvicorn.Server(config)
        server.capture_signals = suppress  # type: ignore[assignment, method-assign]  # the worker handles signals
        return server

    async def on_start(self) -> None:
        """Start serving."""
        self._server = self._create_server()
        self._serve_fut = self.add_future(self._server.serve(sockets=[self._listener]))
        self.add_future(self._parts.recent.run())

    async def on_stop(self) -> None:
        """Let running requests finish, then close the connections to other workers and to the warehouse."""
        self._parts.live.stop()
        await super().on_stop()
        await self._parts.forwarder.close()
        await self._parts.versions.close()


def serve(app: App, settings: ApiSettings, kafka: KafkaSettings, warehouse: SnowflakeSettings) -> None:
    """Add the API to the worker. Raises SettingsError if it cannot be served, or not securely."""
    _check(settings)
    assert settings.tokens_file is not None
    sockets = _bind(settings)
    partitions = ALERTS.partition_count(kafka.partitions)
    parts = Dependencies(
        settings=settings,
        worker=_Worker(app),
        partitions=kafka.partitions,
        tokens=Tokens(settings.tokens_file),
        audit=AuditLog(settings.audit_file),
        forwarder=Forwarder(max_bytes=settings.max_answer_bytes, cafile=settings.tls_cafile),
        versions=LandingReader(warehouse, settings.history_sessions),
        recent=RecentAlerts(kafka, ALERTS.name, partitions, settings.alerts_kept),
        live=AlertStreams(kafka, ALERTS.name, partitions, settings.max_streams),
    )
    app.add_service(ApiService(app, parts, sockets, settings))


def _check(settings: ApiSettings) -> None:
    if settings.tokens_file is None:
        raise SettingsError(
            "the API needs a tokens file. Set BANKSTREAM_API_TOKENS_FILE (`bankstream api-token` prints its entries), or set "
            "BANKSTREAM_API_PORT to 0 to run without the API."
        )
    if settings.tls_certfile is None and not settings.allow_plaintext and not _is_loopback(settings.host):
        raise SettingsError(
            f"the API would send personal data unencrypted on {settings.host}. Set BANKSTREAM_API_TLS_CERTFILE, or "
            "BANKSTREAM_API_ALLOW_PLAINTEXT=true if a proxy in front of it terminates TLS."
        )
    if settings.tls_certfile is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certfile, settings.tls_keyfile)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"the API's certificate {settings.tls_certfile} cannot be used with its key: {error.strerror or error}. "
                "Correct BANKSTREAM_API_TLS_CERTFILE and BANKSTREAM_API_TLS_KEYFILE."
            ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(settings: ApiSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"the API cannot be served on {settings.host}:{settings.port} ({error.strerror}). Set BANKSTREAM_API_PORT to a free port, or "
            "to 0 to run without the API."
        ) from error
