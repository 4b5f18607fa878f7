"""Implements the object store on S3, or on any server with S3's conditional puts and signed requests.

Retries are done here and not by botocore, so that they are counted and limited in one place. They are safe: a put that is repeated after a
lost reply finds its own name taken.
"""

import asyncio
import base64
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

from app.config.settings import S3Settings
from sinks import metrics
from sinks.base import ObjectStat, SinkRefusedError, SinkUnavailableError

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CONNECTIONS: Final = 32
BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 5.0
RETRIED_CODES: Final = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
FAILURES: Final = (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError)
"""Exceptions of a call that got no answer."""


async def _as_it_is(answer: Any) -> Any:
    return answer


async def _whole(answer: Any) -> bytes:
    async with answer["Body"] as stream:
        content: bytes = await stream.read()
    return content


class S3Store:
    """One bucket, or a folder of it. Connects at the first call. One client uses up to CONNECTIONS connections."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""
        self._client: Any = None
        self._stack = AsyncExitStack()
        self._connecting = asyncio.Lock()

    async def put(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Store unless the name is taken. Returns whether this call stored the object."""
        try:
            await self._call(
                "put_object", name, Key=self._prefix + name, Body=body, Metadata=dict(metadata), IfNoneMatch="*",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
            )  # fmt: skip
        except ClientError as error:
            if _status(error) == 412:
                return False
            raise self._refused(error, "put", name) from None
        return True

    async def stat(self, name: str) -> ObjectStat | None:
        """Returns size and metadata; None if there is no such object."""
        try:
            found = await self._call("head_object", name, Key=self._prefix + name)
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise self._refused(error, "read", name) from None
        return ObjectStat(int(found["ContentLength"]), found["Metadata"])

    async def get(self, name: str) -> bytes:
        """Returns the content."""
        try:
            found: bytes = await self._call("get_object", name, read=_whole, Key=self._prefix + name)
        except ClientError as error:
            raise self._refused(error, "read", name) from None
        return found

    async def names(self, prefix: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        """Returns names in order."""
        full = self._prefix + prefix
        start: dict[str, Any] = {"StartAfter": self._prefix + after} if after else {}
        try:
            page = await self._call("list_objects_v2", prefix, Prefix=full, MaxKeys=limit, **start)
        except ClientError as error:
            raise self._refused(error, "list", prefix) from None
        return [item["Key"].removeprefix(self._prefix) for item in page.get("Contents", ())]

    async def children(self, prefix: str) -> list[str]:
        """Returns folders in order."""
        full = self._prefix + prefix
        found: list[str] = []
        token: dict[str, Any] = {}
        while True:
            try:
                page = await self._call("list_objects_v2", prefix, Prefix=full, Delimiter="/", **token)
            except ClientError as error:
                raise self._refused(error, "list", prefix) from None
            found += [item["Prefix"].removeprefix(full).rstrip("/") for item in page.get("CommonPrefixes", ())]
            if not page.get("IsTruncated"):
                return found
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def close(self) -> None:
        """Close the connections."""
        self._client = None
        await self._stack.aclose()

    async def _call(
        self, operation: str, about: str, *, read: Callable[[Any], Awaitable[Any]] = _as_it_is, **arguments: Any
    ) -> Any:
        client = await self._connected()
        for attempt in range(1, self._settings.max_attempts + 1):
            try:
                answer = await getattr(client, operation)(Bucket=self._settings.bucket, **arguments)
                return await read(answer)
            except ClientError as error:
                if _status(error) < 500 and _status(error) != 429 and _code(error) not in RETRIED_CODES:
                    raise
                reason: Exception = error
            except FAILURES as error:
                reason = error
            metrics.STORE_RETRIES.labels(operation).inc()
            logger.warning("S3 %s %s failed, attempt %d: %s", operation, about, attempt, reason)
            if attempt < self._settings.max_attempts:
                ceiling = min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt)
                await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter
        raise SinkUnavailableError(
            f"S3 bucket {self._settings.bucket} gave no answer to {operation} {about} in {self._settings.max_attempts} attempts: {reason}"
        )

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                secret = self._settings.secret_access_key
                self._client = await self._stack.enter_async_context(
                    get_session().create_client(
                        "s3",
                        endpoint_url=self._settings.endpoint_url,
                        region_name=self._settings.region,
                        aws_access_key_id=self._settings.access_key_id,
                        aws_secret_access_key=secret.get_secret_value() if secret else None,
                        config=AioConfig(
                            connect_timeout=min(5, self._settings.timeout_s),
                            read_timeout=self._settings.timeout_s,
                            retries={"total_max_attempts": 1},
                            max_pool_connections=CONNECTIONS,
                            request_checksum_calculation="when_required",
                            response_checksum_validation="when_required",
                            proxies={} if self._settings.endpoint_url else None,  # no proxy for a server of one's own
                            s3={"addressing_style": "path" if self._settings.endpoint_url else "auto"},
                        ),
                    )
                )
                # without `Expect: 100-continue`, which costs a round trip and is always accepted
                self._client.meta.events.unregister("before-call.s3", add_expect_header)
            return self._client

    def _refused(self, error: ClientError, verb: str, name: str) -> SinkRefusedError:
        return SinkRefusedError(
            f"S3 refuses to {verb} {self._settings.bucket}/{self._prefix}{name}: {_code(error)}, "
            f"{error.response['Error'].get('Message', 'no reason given')}. Check bucket, keys and policy (BANKSTREAM_S3_*)."
        )


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", "unknown"))
