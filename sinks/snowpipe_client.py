"""Calls Snowpipe Streaming's REST interface (high-performance architecture): host, scoped token, channels, rows, status.

Only a request with an expired token is retried. The caller reads from the channel whether another failed request took effect.

https://docs.snowflake.com/en/user-guide/snowpipe-streaming/snowpipe-streaming-high-performance-rest-api
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
import zstandard
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from snowflake.connector.auth import AuthByKeyPair

from app.config.settings import SnowflakeSettings
from app.errors import SettingsError
from sinks.base import LedgerConflictError, SinkRefusedError, SinkUnavailableError
from sinks.sql import identifier

Answer = TypeVar("Answer")

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
MAX_REQUEST_BYTES: Final = 16_000_000
"""Maximum size of one request's rows. The documentation says 16 MB, read here as the smaller of its two meanings."""
UNAVAILABLE: Final = frozenset({408, 429, 500, 502, 503, 504})
STALE: Final = ("CONTINUATION_TOKEN", "SEQUENCER", "REOPEN")
"""Parts of the error codes that mean that another client has opened the channel, or that it must be reopened."""


class ChannelStatus(msgspec.Struct, frozen=True):
    """The service's status of a channel. It counts rows that it could not insert, and its token moves past them."""

    last_committed_offset_token: str | None = None
    channel_status_code: str = ""
    rows_error_count: int | None = None
    rows_errors: int | None = None
    """`rows_error_count` under the name that some versions of the interface use."""
    last_error_message: str | None = None

    @property
    def errors(self) -> int:
        """The number of rows that were left out since the channel was created."""
        return self.rows_error_count or self.rows_errors or 0


class Opened(msgspec.Struct, frozen=True):
    """A channel that this client has just opened."""

    next_continuation_token: str
    channel_status: ChannelStatus


class _Appended(msgspec.Struct, frozen=True):
    next_continuation_token: str


class _Statuses(msgspec.Struct, frozen=True):
    channel_statuses: dict[str, ChannelStatus]


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class SnowpipeClient:
    """A client for one account and database. Logs in at the first call. Raises the errors of sinks/base.py."""

    def __init__(self, settings: SnowflakeSettings) -> None:
        if settings.private_key_path is None:
            raise SettingsError(
                "Snowpipe Streaming accepts key pairs only. Set BANKSTREAM_SNOWFLAKE_PRIVATE_KEY_PATH, or BANKSTREAM_WAREHOUSE_SINK=copy."
            )
        self._settings = settings
        self._key = _private_key(settings.private_key_path, settings)
        host = settings.host or f"{settings.account}.snowflakecomputing.com"
        self._account = f"{settings.protocol}://{host}:{settings.port}"
        self._schema = f"databases/{identifier(settings.database)}/schemas/BRONZE"
        self._session: aiohttp.ClientSession | None = None
        self._ingest, self._token = "", ""
        self._login = asyncio.Lock()

    async def open(self, pipe: str, channel: str, offset_token: str | None = None) -> Opened:
        """Create the channel or take it over. Uncommitted rows of other clients are dropped, and they can send no more.

        With `offset_token`, that becomes the channel's position.
        """
        body = {} if offset_token is None else {"offset_token": offset_token}
        return await self._call("PUT", self._channel("", pipe, channel), Opened, json=body)

    async def append(self, pipe: str, channel: str, continuation: str, offset_token: str, rows: bytes) -> str:
        """Send rows as NDJSON and return the next continuation token. Rows and offset token are committed together, after the return."""
        return (
            await self._call(
                "POST",
                f"{self._channel('data/', pipe, channel)}/rows",
                _Appended,
                params={"continuationToken": continuation, "offsetToken": offset_token},
                data=await asyncio.to_thread(zstandard.compress, rows, 1),
                headers={"Content-Type": "application/x-ndjson", "Content-Encoding": "zstd"},
            )
        ).next_continuation_token

    async def statuses(self, pipe: str, channels: Sequence[str]) -> dict[str, ChannelStatus]:
        """Returns the status by channel. Channels that do not exist are left out."""
        path = f"/v2/streaming/{self._schema}/pipes/{identifier(pipe)}:bulk-channel-status"
        return (await self._call("POST", path, _Statuses, json={"channel_names": list(channels)})).channel_statuses

    async def close(self) -> None:
        """Close the connections. The channels stay."""
        if self._session is not None:
            await self._session.close()

    def _channel(self, kind: str, pipe: str, channel: str) -> str:
        return f"/v2/streaming/{kind}{self._schema}/pipes/{identifier(pipe)}/channels/{quote(channel, safe='')}"

    async def _call(self, method: str, path: str, kind: type[Answer], **request: Any) -> Answer:
        token = await self._logged_in("")
        status, body = await self._send(method, f"{self._ingest}{path}", token, **request)
        if status == 401:
            token = await self._logged_in(token)
            status, body = await self._send(method, f"{self._ingest}{path}", token, **request)
        _raise_for(status, body, f"{method} {path}")
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise SinkUnavailableError(
                f"Snowpipe Streaming answers {method} {path} with an invalid body: {error}"
            ) from None

    async def _logged_in(self, expired: str) -> str:
        """Returns a token for the ingest host that is not the expired one."""
        async with self._login:
            if self._token == expired:
                jwt = AuthByKeyPair(private_key=self._key).prepare(
                    account=self._settings.account, user=self._settings.user
                )
                headers = {"X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT"}
                host = await self._text("GET", "/v2/streaming/hostname", "hostname", jwt, headers=headers)
                form = {"grant_type": GRANT, "scope": host}
                self._token = await self._text("POST", "/oauth/token", "token", jwt, data=form)
                self._ingest = f"{self._settings.protocol}://{host}"
            return self._token

    async def _text(self, method: str, path: str, name: str, jwt: str, **request: Any) -> str:
        """Returns an answer that is one text, either plain (as documented) or in an object (as the documentation's examples read it)."""
        status, body = await self._send(method, f"{self._account}{path}", jwt, **request)
        if status == 401:
            raise SinkUnavailableError(
                f"{self._account} refuses the key of {self._settings.user}. Check the user's RSA_PUBLIC_KEY and this machine's clock."
            )
        _raise_for(status, body, f"{method} {path}")
        if body.lstrip().startswith(b"{"):
            return msgspec.json.decode(body, type=dict[str, str])[name]
        return body.decode().strip()

    async def _send(
        self, method: str, url: str, token: str, *, headers: Mapping[str, str] | None = None, **request: Any
    ) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._settings.network_timeout_s), auto_decompress=True
            )
        sent = {"Authorization": f"Bearer {token}", "User-Agent": "bankstream"} | dict(headers or {})
        try:
            async with self._session.request(method, url, headers=sent, **request) as reply:
                return reply.status, await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SinkUnavailableError(f"{url} failed: {type(error).__name__}: {error}") from None


def _raise_for(status: int, body: bytes, what: str) -> None:
    if status < 300:
        return
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem(message=body[:200].decode(errors="replace"))
    told = f"Snowpipe Streaming answers {what} with {status} {problem.code}: {problem.message}"
    if any(word in problem.code.upper() for word in STALE):
        raise LedgerConflictError(told)
    if status in UNAVAILABLE or status == 401:
        raise SinkUnavailableError(told)
    raise SinkRefusedError(told)


def _private_key(path: Path, settings: SnowflakeSettings) -> bytes:
    """Returns the private key as DER, which the connector's token generator needs."""
    passphrase = settings.private_key_passphrase
    try:
        key = load_pem_private_key(
            path.read_bytes(), None if passphrase is None else passphrase.get_secret_value().encode()
        )
    except (OSError, TypeError, ValueError) as error:
        raise SettingsError(
            f"BANKSTREAM_SNOWFLAKE_PRIVATE_KEY_PATH: {path} cannot be read ({type(error).__name__}). It must be PKCS#8 in PEM, with "
            "its passphrase in BANKSTREAM_SNOWFLAKE_PRIVATE_KEY_PASSPHRASE."
        ) from None
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
