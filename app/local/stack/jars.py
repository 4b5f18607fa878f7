"""Downloads the jars of Kafka, Connect and Debezium that the lock files name, and checks their sha256 at every start.

All stacks of a user share the cache. It is addressed by content: `<cache>/jars/<sha256>/<artifact>-<version>.jar`. A file is moved there
by an atomic rename after its hash was compared with the lock. A file whose hash has changed is downloaded again. jgo resolves and
downloads. Neither its checksum test (it warns and keeps the file) nor its cache is relied on.
"""

import errno
import hashlib
import shutil
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import requests
from jgo.maven import MavenContext
from jgo.maven._resolver import PythonResolver

from app.local.stack.errors import DownloadError, HomeError
from app.local.stack.events import Downloading, Progress

LockName = Literal["kafka", "debezium"]

ROOTS: Final[dict[LockName, tuple[str, ...]]] = {
    "kafka": (
        *(
            f"org.apache.kafka:{name}:4.2.2"
            for name in ("kafka_2.13", "connect-runtime", "connect-json", "connect-transforms")
        ),
        "org.slf4j:slf4j-simple:1.7.36",
    ),
    "debezium": ("io.debezium:debezium-connector-postgres:3.6.1.Final",),
}
PLUGIN_SKIP: Final = frozenset({"connect-api", "kafka-clients", "jakarta.ws.rs-api", "slf4j-api"})
"""Classes that Connect itself provides: it would never load the plugin's copies."""

LOCKS: Final = Path(__file__).parent / "locks"
ATTEMPTS: Final = 3
WORKERS: Final = 8
TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Jar:
    """One file that a lock names."""

    group_id: str
    artifact_id: str
    version: str
    classifier: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file name."""
        return "-".join(part for part in (self.artifact_id, self.version, self.classifier) if part) + ".jar"

    def path(self, cache: Path) -> Path:
        """Returns the file's path in the cache."""
        return cache / "jars" / self.sha256 / self.name


def locked(group: LockName, locks: Path = LOCKS) -> tuple[Jar, ...]:
    """Returns the jars of one group that the lock names."""
    with (locks / f"{group}.lock.toml").open("rb") as file:
        return tuple(Jar(**entry) for entry in tomllib.load(file)["jar"])


def fetch(jars: Iterable[Jar], cache: Path, progress: Progress, *, repository: str | None = None) -> tuple[Path, ...]:
    """Downloads the jars that are missing or damaged and returns the paths of all, each with the hash of the lock.

    `repository` is the URL of a Maven repository, by default Maven Central. Raises DownloadError, or HomeError if the cache cannot be
    written.
    """
    jars = tuple(jars)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="jars") as pool:
        intact = tuple(pool.map(lambda jar: _sha256(jar.path(cache)) == jar.sha256, jars))
        missing = [jar for jar, good in zip(jars, intact, strict=True) if not good]
        if missing:
            _download_all(missing, cache, progress, repository, pool)
    return tuple(jar.path(cache) for jar in jars)


def _download_all(
    missing: list[Jar], cache: Path, progress: Progress, repository: str | None, pool: ThreadPoolExecutor
) -> None:
    meter = _Meter(sum(jar.size for jar in missing), progress)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix="incoming-", dir=cache))
    except OSError as error:
        raise HomeError(
            f"the download cache {cache} cannot be written ({error.strerror}). Free space there or make it writable, "
            "or set BANKSTREAM_STACK_CACHE to another directory."
        ) from None
    try:
        resolver = PythonResolver(progress_callback=meter.file)
        context = MavenContext(
            resolver=resolver,
            repo_cache=staging,
            remote_repos={"configured": repository.rstrip("/")} if repository else None,
            timeout=TIMEOUT_S,
        )
        futures = [pool.submit(_download, jar, cache, context, repository) for jar in missing]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            for future in futures:
                if not future.cancelled():
                    future.exception()
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(jar: Jar, cache: Path, context: MavenContext, repository: str | None) -> None:
    artifact = context.project(jar.group_id, jar.artifact_id).at_version(jar.version).artifact(jar.classifier, "jar")
    source = repository or next(iter(context.remote_repos.values()))
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            arrived: Path = artifact.resolve()
        except (requests.RequestException, RuntimeError) as error:
            problem = f"{type(error).__name__}: {error}"
            _forget(artifact.cached_path)
            continue
        except OSError as error:
            raise _no_space(error, cache) from None
        found = _sha256(arrived)
        if found == jar.sha256:
            target = jar.path(cache)
            target.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(target)
            return
        problem = f"its sha256 is {found}, the lock says {jar.sha256}"
        _forget(arrived)
    raise DownloadError(
        f"{jar.name} could not be fetched from {source} in {ATTEMPTS} attempts; last: {problem}. Check the network and the "
        "proxy (HTTPS_PROXY), or point BANKSTREAM_STACK_MAVEN_URL to a mirror that you can reach. A hash that differs from "
        "the lock is never accepted."
    )


def _no_space(error: OSError, cache: Path) -> HomeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HomeError(f"the disk of the download cache {cache} is full. Free about 200 MB there and start again.")
    return HomeError(f"the download cache {cache} cannot be written ({error}). Make it writable and start again.")


def _forget(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


class _Meter:
    """Adds up the bytes of parallel downloads and reports them at most once every 256 KiB."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._done = self._reported = 0
        self._lock = threading.Lock()
        progress(Downloading("", 0, total))

    @contextmanager
    def file(self, name: str, _size: int) -> Iterator[Callable[[int], None]]:
        """Callback of jgo: a context that yields the function that counts the bytes of one file."""

        def count(bytes_count: int) -> None:
            with self._lock:
                self._done += bytes_count
                if self._done - self._reported < 1 << 18 and self._done < self._total:
                    return
                self._reported = self._done
            self._progress(Downloading(name, min(self._done, self._total), self._total))

        yield count


def write_locks(locks: Path, echo: Callable[[str], None]) -> None:
    """Resolve ROOTS again and write the lock files. Reads every POM, which is slow: run it only to change a version."""
    locks.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=TIMEOUT_S)
        for group, coordinates in ROOTS.items():
            inputs, transitive = context.resolver.resolve([context.create_dependency(text) for text in coordinates])
            lines = [f"# Jars of {group}, with their hashes. Written by: python -m app.local.stack.jars", ""]
            for dep in sorted(inputs + transitive, key=lambda d: (d.groupId, d.artifactId)):
                if group == "debezium" and dep.artifactId in PLUGIN_SKIP:
                    continue
                path = dep.artifact.resolve()
                fields = {
                    "group_id": dep.groupId, "artifact_id": dep.artifactId, "version": dep.version,
                    "classifier": dep.artifact.classifier or "", "sha256": _sha256(path),
                }  # fmt: skip
                lines += ["[[jar]]", *(f'{key} = "{value}"' for key, value in fields.items())]
                lines += [f"size = {path.stat().st_size}", ""]
            (locks / f"{group}.lock.toml").write_text("\n".join(lines))
            echo(f"{group}: {sum(line == '[[jar]]' for line in lines)} jars")


if __name__ == "__main__":
    write_locks(LOCKS, print)
