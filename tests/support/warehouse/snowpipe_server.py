"""A stand-in for the REST interface of Snowpipe Streaming (high-performance architecture), as documented. It keeps these guarantees:

- the login: a JWT signed by the registered key, for the control host; a scoped token, which may expire, for the ingest host;
- a channel's continuation token is valid for one append; opening a channel invalidates all earlier tokens and drops uncommitted rows;
- rows and offset token are committed together, some time after the response to the append; a row that the pipe cannot load is skipped
  and counted (ON_ERROR = CONTINUE), and the token advances.

Faults, each for one request of an operation: before (503, nothing is executed), after (executed, then the connection is cut), throttled
(429), expired (the scoped token), never (an append with a response that is never committed: the channel must be opened again).
"""

import asyncio
import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qs

import jwt
import zstandard
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.config.settings import SnowflakeSettings

Fault = Literal["before", "after", "throttled", "expired", "never"]
Operation = Literal["hostname", "token", "open", "append", "status"]
MAX_BYTES: Final = 16_000_000
ACCOUNT, USER = "myorg-myaccount", "BANK_LOADER_SVC"


@dataclass
class Channel:
    """A channel of a pipe."""

    pipe: str
    sequencer: int = 0
    row: int = 0
    """Number of appends of this sequencer. Both together are the continuation token."""
    committed: str | None = None
    pending: list[tuple[list[str], str]] = field(default_factory=list)
    errors: int = 0
    stuck: bool = False

    @property
    def continuation(self) -> str:
        return f"{self.sequencer}_{self.row}"


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class SnowpipeServer:
    """The server, as an async context manager. `commit` gets a table and its rows, each the JSON text of the column `record`."""

    def __init__(
        self, folder: Path, pipes: dict[str, str], commit: Callable[[str, Sequence[str]], object], database: str
    ) -> None:
        key = _key()
        self._public = key.public_key()
        public = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode()
        self.key_path = folder / f"{token_hex(4)}.p8"
        self.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self._pipes, self._commit, self._database = pipes, commit, database
        self.channels: dict[str, Channel] = {}
        self.faults: dict[str, deque[Fault]] = {}
        self.fired: list[tuple[str, Fault]] = []
        self.commit_delay_s = 0.0
        self.requests: list[str] = []
        self._scoped: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=MAX_BYTES * 2)
        pipe = "/databases/{database}/schemas/{schema}/pipes/{pipe}"
        application.add_routes(
            [
                web.get("/v2/streaming/hostname", self._faulty("hostname", self._hostname)),
                web.post("/oauth/token", self._faulty("token", self._oauth)),
                web.put(f"/v2/streaming{pipe}/channels/{{channel}}", self._faulty("open", self._open)),
                web.delete(f"/v2/streaming{pipe}/channels/{{channel}}", self._faulty("open", self._drop)),
                web.post(f"/v2/streaming/data{pipe}/channels/{{channel}}/rows", self._faulty("append", self._append)),
                web.post(f"/v2/streaming{pipe}:bulk-channel-status", self._faulty("status", self._status)),
            ]
        )
        self._runner = web.AppRunner(application, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._runner is not None
        await self._runner.cleanup()

    def settings(self, **changes: Any) -> SnowflakeSettings:
        """The settings for clients of this server."""
        given: dict[str, Any] = {
            "account": ACCOUNT, "user": USER, "host": "127.0.0.1", "port": self.port, "protocol": "http", "database": self._database,
            "private_key_path": self.key_path, "network_timeout_s": 10,
        }  # fmt: skip
        return SnowflakeSettings(**(given | changes))

    def arm(self, operation: Operation, *faults: Fault) -> None:
        """Applies these faults to the next requests of an operation."""
        self.faults.setdefault(operation, deque()).extend(faults)

    def _faulty(self, operation: Operation, handler: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handled(request: web.Request) -> web.StreamResponse:
            self.requests.append(operation)
            waiting = self.faults.get(operation)
            fault = waiting.popleft() if waiting else None
            if fault is not None:
                self.fired.append((operation, fault))
            if fault == "before":
                return _problem(503, "ERR_SERVICE_UNAVAILABLE")
            if fault == "throttled":
                return _problem(429, "ERR_TOO_MANY_REQUESTS")
            if fault == "expired":
                self._scoped.clear()
            answer: web.StreamResponse = await handler(request)
            if fault == "never":
                self.channels[request.match_info["channel"].upper()].stuck = True
            if fault == "after" and request.transport is not None:
                request.transport.abort()
            return answer

        return handled

    async def _hostname(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Snowflake-Authorization-Token-Type") != "KEYPAIR_JWT" or not self._signed(request):
            return _problem(401, "ERR_UNAUTHORIZED")
        return web.json_response({"hostname": f"127.0.0.1:{self.port}"})

    async def _oauth(self, request: web.Request) -> web.Response:
        form = parse_qs((await request.read()).decode())
        if not self._signed(request):
            return _problem(401, "ERR_UNAUTHORIZED")
        if form != {"grant_type": ["urn:ietf:params:oauth:grant-type:jwt-bearer"], "scope": [f"127.0.0.1:{self.port}"]}:
            return _problem(400, "ERR_INVALID_SCOPE")
        token = token_hex(16)
        self._scoped.add(token)
        return web.Response(
            text=token
        )  # as the documentation's examples read it; the hostname is as its reference shows it

    async def _open(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        name = request.match_info["channel"].upper()
        channel = self.channels.setdefault(name, Channel(request.match_info["pipe"].upper()))
        channel.sequencer, channel.row, channel.stuck = channel.sequencer + 1, 0, False
        channel.pending.clear()
        channel.committed = body.get("offset_token", channel.committed)
        return web.json_response(
            {"next_continuation_token": channel.continuation, "channel_status": self._described(name, channel)}
        )

    async def _drop(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        self.channels.pop(request.match_info["channel"].upper(), None)
        return web.json_response({})

    async def _append(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        channel = self.channels.get(request.match_info["channel"].upper())
        if channel is None:
            return _problem(404, "ERR_CHANNEL_DOES_NOT_EXIST")
        if channel.stuck:
            return _problem(400, "ERR_CHANNEL_MUST_BE_REOPENED")
        if request.query["continuationToken"] != channel.continuation:
            return _problem(400, "STALE_CONTINUATION_TOKEN_SEQUENCER")
        if request.headers["Content-Type"] != "application/x-ndjson":
            return _problem(400, "ERR_CONTENT_TYPE")
        body = await request.read()
        if request.headers.get("Content-Encoding") == "zstd":
            body = zstandard.decompress(body, MAX_BYTES * 2)
        if len(body) > MAX_BYTES:
            return _problem(413, "ERR_PAYLOAD_TOO_LARGE")
        rows = []
        for line in body.splitlines():
            row = json.loads(line)
            if not isinstance(row, dict) or row.keys() != {"record"}:
                channel.errors += 1
                continue
            rows.append(line.decode()[len('{"record":') : -1])
        channel.row += 1
        channel.pending.append((rows, request.query["offsetToken"]))
        task = asyncio.create_task(self._commit_later(channel, channel.sequencer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response({"next_continuation_token": channel.continuation})

    async def _commit_later(self, channel: Channel, sequencer: int) -> None:
        await asyncio.sleep(self.commit_delay_s)
        if channel.sequencer == sequencer and not channel.stuck:
            while channel.pending:
                rows, token = channel.pending.pop(0)
                self._commit(self._pipes[channel.pipe], rows)
                channel.committed = token

    async def _status(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        asked = (await request.json())["channel_names"]
        pipe = request.match_info["pipe"].upper()
        return web.json_response(
            {
                "channel_statuses": {
                    name: self._described(name, channel)
                    for name in asked
                    if (channel := self.channels.get(name.upper())) is not None and channel.pipe == pipe
                }
            }
        )

    def _described(self, name: str, channel: Channel) -> dict[str, object]:
        return {
            "database_name": self._database,
            "schema_name": "BRONZE",
            "pipe_name": channel.pipe,
            "channel_name": name,
            "channel_status_code": "SUCCESS",
            "last_committed_offset_token": channel.committed,
            "rows_error_count": channel.errors,
            "last_error_message": "no such column" if channel.errors else None,
        }

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._scoped:
            return _problem(401, "ERR_UNAUTHORIZED")
        where = request.match_info
        if (where["database"], where["schema"]) != (self._database, "BRONZE") or where[
            "pipe"
        ].upper() not in self._pipes:
            return _problem(404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
        return None

    def _signed(self, request: web.Request) -> bool:
        try:
            claims = jwt.decode(
                request.headers.get("Authorization", "").removeprefix("Bearer "), self._public, algorithms=["RS256"]
            )
        except jwt.InvalidTokenError:
            return False
        who = f"{ACCOUNT}.{USER}".upper()
        return (claims["sub"], claims["iss"]) == (who, f"{who}.{self._fingerprint}")


def _problem(status: int, code: str) -> web.Response:
    return web.json_response({"code": code, "message": code.lower()}, status=status)
