"""Forwards a request to the worker that owns the key, in one hop, and returns its answer unchanged.

The client's token is forwarded, and the other worker checks it like any other. A worker therefore needs no more trust than a client.
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
"""Header of a forwarded request. A worker that receives it and does not own the key answers 503 instead of forwarding again."""
REQUEST_ID: Final = "x-request-id"
FORWARDED_HEADERS: Final = ("content-type", "retry-after")


@dataclass(frozen=True, slots=True)
class ForwardedResponse:
    """Another worker's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Forwarder:
    """Sends requests to other workers over persistent connections."""

    def __init__(self, *, max_bytes: int, cafile: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._tls: SSLContext | bool = create_default_context(cafile=cafile) if cafile is not None else True
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, path: str, headers: Mapping[str, str], *, timeout_s: float) -> ForwardedResponse:
        """Sends GET `path` to the worker at `url` and returns its answer. Raises ProblemError 503 if it does not answer."""
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
                    raise unavailable("The worker that owns this key sent an answer over the size limit.", 10)
                passed = {name: answer.headers[name] for name in FORWARDED_HEADERS if name in answer.headers}
                return ForwardedResponse(answer.status, passed, body)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            raise unavailable("The worker that owns this key does not answer. Try again in a moment.") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
