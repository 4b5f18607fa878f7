"""Kills a worker with SIGKILL at a named point. The product has no code for this: `install` wraps functions of the product.

If such a function no longer exists, the worker fails at its start. Each kill appends a line to a proof file and writes it to standard
error: the point, how often it was reached, and the process.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

AT, NTH, TIMES, PROOF = (f"BANKSTREAM_FAULTS_CRASH_{name}" for name in ("AT", "NTH", "TIMES", "PROOF"))
HOOK: Final = f"{__name__}:install"

Async = Callable[..., Awaitable[Any]]


@dataclass
class Fuse:
    """Counts how often the point is reached, and kills the process at the n-th time."""

    point: str
    nth: int
    proof: Path | None
    reached: int = 0

    def reach(self, what: str = "") -> None:
        """Counts the point. Does not return at the n-th time."""
        self.reached += 1
        if self.reached < self.nth:
            return
        line = f"CRASH POINT {self.point}, reached {self.reached} times: process {os.getpid()} kills itself {what}".rstrip()
        if self.proof is not None:
            with self.proof.open("a") as proof:
                proof.write(line + "\n")
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def environment(point: str, *, nth: int = 1, times: int = 1, proof: Path) -> dict[str, str]:
    """Variables for a worker with the hook: each of its first `times` processes dies at the n-th time that it reaches the point."""
    if point not in POINTS:
        raise ValueError(f"{point!r} is no crash point; there are {', '.join(POINTS)}")
    return {AT: point, NTH: str(nth), TIMES: str(times), PROOF: str(proof)}


def deaths(proof: Path) -> list[str]:
    """The proofs so far."""
    return proof.read_text().splitlines() if proof.exists() else []


def install() -> None:
    """Reads the environment and wraps the functions of the point. Does nothing if the worker has died `times` times."""
    proof = Path(os.environ[PROOF]) if PROOF in os.environ else None
    if proof is not None and len(deaths(proof)) >= int(os.environ.get(TIMES, "1")):
        return
    point = os.environ[AT]
    POINTS[point].install(Fuse(point, int(os.environ.get(NTH, "1")), proof))


def _wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def _after_outputs(fuse: Fuse) -> None:
    """Outputs are at the broker in an open transaction. No changelog record has been sent."""
    from app.engine.transactional_producer import TransactionalProducer  # noqa: PLC0415 - a worker imports what it is made of, and no more

    def wrapped(send: Async) -> Async:
        async def dying(self: Any, target: tuple[str, int], pairs: Any) -> Any:
            outputs = self.__dict__.setdefault("outputs_under_way", [])
            if not target[0].endswith("-changelog"):
                sent = await send(self, target, pairs)
                outputs += [future for future, _ in sent]
                return sent
            if outputs:
                await asyncio.gather(*outputs)
                fuse.reach(f"with {len(outputs)} record batches of outputs written")
                outputs.clear()
            return await send(self, target, pairs)

        return dying

    _wrap(TransactionalProducer, "_send", wrapped)


def _around_commit(fuse: Fuse, *, after: bool) -> None:
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415 - see above

    def wrapped(commit: Async) -> Async:
        async def dying(self: Any) -> Any:
            if not after:
                await self.flush()
                fuse.reach()
            answer = await commit(self)
            if after:
                fuse.reach()
            return answer

        return dying

    _wrap(AIOKafkaProducer, "commit_transaction", wrapped)


def _during_restore(fuse: Fuse) -> None:
    """A part of a changelog is in RocksDB."""
    from app.engine import restore  # noqa: PLC0415 - see above
    from app.engine.store import Store  # noqa: PLC0415

    restoring: ContextVar[bool] = ContextVar("restoring", default=False)

    def wrapped(replay: Async) -> Async:
        async def marked(*args: Any, **kwargs: Any) -> Any:
            restoring.set(True)
            try:
                return await replay(*args, **kwargs)
            finally:
                restoring.set(False)

        return marked

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def dying(self: Any, *args: Any) -> Any:
            written = write(self, *args)
            if args[0] and restoring.get():
                fuse.reach("with a part of a changelog written")
            return written

        return dying

    _wrap(restore, "_replay", wrapped)
    for name in {"write", "load"} & vars(Store).keys():  # the methods with which a restore writes
        _wrap(Store, name, counted)


def _mid_upload(fuse: Fuse) -> None:
    """S3 has the head and half of the body of a PUT."""
    from aiohttp.http_writer import StreamWriter  # noqa: PLC0415 - see above

    from sinks.s3 import S3Store  # noqa: PLC0415

    putting: ContextVar[str] = ContextVar("putting", default="")

    def wrapped(put: Async) -> Async:
        async def marked(self: Any, name: str, body: bytes, metadata: Any) -> Any:
            mark = putting.set(name)
            try:
                return await put(self, name, body, metadata)
            finally:
                putting.reset(mark)

        return marked

    def halved(write: Async) -> Async:
        async def dying(self: Any, chunk: Any, *args: Any, **kwargs: Any) -> Any:
            if putting.get() and fuse.reached + 1 == fuse.nth:
                await write(self, chunk[: len(chunk) // 2], drain=True)
                while self.transport.get_write_buffer_size():
                    await asyncio.sleep(0)
                fuse.reach(f"with {len(chunk) // 2} of {len(chunk)} bytes of {putting.get()} sent")
            if putting.get():
                fuse.reach()
            return await write(self, chunk, *args, **kwargs)

        return dying

    _wrap(S3Store, "put", wrapped)
    _wrap(StreamWriter, "write", halved)


def _after_upload(fuse: Fuse) -> None:
    """The object is in S3 and not announced."""
    from sinks.s3 import S3Store  # noqa: PLC0415 - see above

    def wrapped(put: Async) -> Async:
        async def dying(self: Any, name: str, body: bytes, metadata: Any) -> Any:
            stored = await put(self, name, body, metadata)
            if stored and not name.startswith("large/"):
                fuse.reach(f"behind {name}")
            return stored

        return dying

    _wrap(S3Store, "put", wrapped)


def _around_load_commit(fuse: Fuse, *, after: bool) -> None:
    from sinks.snowflake import SnowflakeWarehouse  # noqa: PLC0415 - see above

    def wrapped(run: Callable[..., Any]) -> Callable[..., Any]:
        def dying(self: Any, sql: str) -> Any:
            if sql == "COMMIT" and not after:
                fuse.reach()
            answer = run(self, sql)
            if sql == "COMMIT" and after:
                fuse.reach()
            return answer

        return dying

    _wrap(SnowflakeWarehouse, "_run", wrapped)


@dataclass(frozen=True, slots=True)
class Point:
    """A crash point: the kind of worker that reaches it, and the function that wraps the product's functions."""

    kind: str
    install: Callable[[Fuse], None]


POINTS: Final = {
    "after-outputs": Point("streams", _after_outputs),
    "after-changelog": Point("streams", lambda fuse: _around_commit(fuse, after=False)),
    "after-commit": Point("streams", lambda fuse: _around_commit(fuse, after=True)),
    "during-restore": Point("streams", _during_restore),
    "mid-upload": Point("lake", _mid_upload),
    "after-upload": Point("lake", _after_upload),
    "before-load-commit": Point("warehouse", lambda fuse: _around_load_commit(fuse, after=False)),
    "after-load-commit": Point("warehouse", lambda fuse: _around_load_commit(fuse, after=True)),
}
"""In the order in which a record reaches them. `after-commit` is before the write to RocksDB, `after-upload` before the announcement,
`after-load-commit` before the group offset in Kafka."""
