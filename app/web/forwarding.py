"""Asking the worker that has the key: one hop, the same question, its answer handed through.

The client's token goes along, and the other worker checks it like any other; so no worker is trusted more than a client is.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Final

import aiohttp

from app.web.problems import unavailable

HOP: Final = "x-bankstream-hop"
"""Set on what one worker asks another. Who gets it and does not have the key either says so, instead of asking on."""
REQUEST_ID: Final = "x-request-id"
FORWARDED_HEADERS: Final = ("content-type", "retry-after")


@dataclass(frozen=True, slots=True)
class ForwardedResponse:
    """Another worker's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Forwarder:
    """Asks other workers, over connections that are kept."""

    def __init__(self, *, max_bytes: int, cafile: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._tls: SSLContext | bool = create_default_context(cafile=cafile) if cafile is not None else True
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, url: str, path: str, headers: Mapping[str, str], *, timeout_s: float) -> ForwardedResponse:
        """GET `path` of the worker at `url`. ProblemError 503 if it does not answer."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit_per_host=64, ssl=self._tls)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(url + path, headers={**headers, HOP: "1"}, allow_redirects=False) as answer,
            ):
                body = await answer.content.read(self._max_bytes + 1)
                while len(body) <= self._max_bytes and (
                    more := await answer.content.read(self._max_bytes + 1 - len(body))
                ):
                    body += more
                if len(body) > self._max_bytes:
                    raise unavailable("The worker that has this key sent more than an answer may be.", 10)
                passed = {name: answer.headers[name] for name in FORWARDED_HEADERS if name in answer.headers}
                return ForwardedResponse(answer.status, passed, body)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            raise unavailable("The worker that has this key does not answer. Ask again in a moment.") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
