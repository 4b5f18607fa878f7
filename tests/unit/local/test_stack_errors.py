"""Tests the stack's error messages: each names what is wrong and what to do."""

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from app.config.settings import StackSettings
from app.local.stack import jars, ports
from app.local.stack.errors import DownloadError, HomeError, PortInUseError, UnsupportedPlatformError
from app.local.stack.events import silent
from app.local.stack.home import MIN_FREE_BYTES, Home, State, new_secrets
from app.local.stack.jars import Jar
from app.local.stack.part import Part
from app.local.stack.stack import Stack, check_platform

CONTENT = b"PK\x03\x04 a jar, for a test" * 1_000


def bankstream(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line with these variables and no other BANKSTREAM_ variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BANKSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        check=False, capture_output=True, text=True, timeout=60, env=kept | {"BANKSTREAM_HOME": str(home)} | variables,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "variable", "value", "said"),
    [
        ("stack up", "BANKSTREAM_STACK_PORT_KAFKA", "99999", "less than 65536"),
        ("stack up", "BANKSTREAM_STACK_STREAMS_WORKERS", "none", "valid integer"),
        ("worker lake", "BANKSTREAM_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("worker lake", "BANKSTREAM_LAKE_MAX_AGE_MS", "-7", "greater than 0"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_must_be(
    tmp_path: Path, arguments: str, variable: str, value: str, said: str
) -> None:
    done = bankstream(*arguments.split(), home=tmp_path, **{variable: value})
    assert done.returncode == 1
    assert variable in done.stderr
    assert said in done.stderr
    assert "Correct the environment" in done.stderr
    assert "Traceback" not in done.stderr
    assert value not in done.stderr.replace(said, ""), "a setting may be a secret: it is not repeated"


def test_a_pinned_port_in_use_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = Stack(tmp_path, parts={Part.POSTGRES}, steps=(), settings=StackSettings(port_postgres=port))
        with pytest.raises(PortInUseError, match=rf"port {port} of postgres is in use.*BANKSTREAM_STACK_PORT_POSTGRES"):
            stack.up()
    assert not stack.running()


def test_one_port_cannot_be_pinned_for_two_parts() -> None:
    with pytest.raises(PortInUseError, match=r"port 5000 of kafka is also pinned for postgres"):
        ports.choose(["postgres", "kafka"], {}, {"postgres": 5000, "kafka": 5000}, free=lambda _port: True)


@pytest.mark.parametrize("here", [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")])
def test_on_another_platform_the_error_names_what_is_missing_and_docker(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: here[0])
    monkeypatch.setattr(platform, "machine", lambda: here[1])
    with pytest.raises(UnsupportedPlatformError, match=rf"this is {here[0]} {here[1]}.*docker compose up"):
        check_platform()


class Usage(NamedTuple):
    """The result of shutil.disk_usage."""

    total: int
    used: int
    free: int


def test_too_little_disk_is_an_error_that_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1 << 40, 0, MIN_FREE_BYTES - 1))
    with pytest.raises(HomeError, match=rf"{tmp_path} has 499 MB left.*Free some space.*BANKSTREAM_HOME"):
        Stack(tmp_path, parts={Part.POSTGRES}, steps=()).up()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A full file system."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"this machine does not let root mount: {mounted.stderr.decode().strip()}")
    try:
        (disk / "filling").touch()
        with suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert shutil.disk_usage(disk).free == 0
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_an_error_that_names_the_directory(full_disk: Path) -> None:
    done = bankstream("stack", "up", "--backends-only", home=full_disk / "home")
    assert done.returncode == 1
    assert str(full_disk / "home") in done.stderr
    assert "disk" in done.stderr
    assert "BANKSTREAM_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_leaves_no_half_written_secrets(full_disk: Path) -> None:
    home = Home(full_disk)
    with pytest.raises(HomeError, match="the disk is full"):
        home.save_secrets(new_secrets())
    assert home.load_secrets() is None
    assert [path.name for path in full_disk.iterdir()] == ["filling"]


def test_a_file_in_the_place_of_the_home_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(HomeError, match=rf"cannot use {tmp_path / 'home'}.*BANKSTREAM_HOME"):
        Stack(tmp_path / "home", parts={Part.S3}, steps=()).up()


def test_data_without_its_secrets_is_an_error_and_is_not_given_new_ones(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.save_state(State(instance="0" * 16, kafka_cluster_id="x", parts=("postgres",)))
    with pytest.raises(HomeError, match=r"secrets.json with the passwords is missing.*stack down --wipe"):
        Stack(tmp_path, parts={Part.POSTGRES}, steps=()).up()
    assert home.load_secrets() is None


@pytest.mark.parametrize("command", ["status", "env", "restart kafka"])
def test_a_stack_that_never_ran_says_how_to_start_one(tmp_path: Path, command: str) -> None:
    done = bankstream("stack", *command.split(), home=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "bankstream stack up" in done.stderr


# -- downloads ------------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """A registry that logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A Maven repository on loopback: its URL and its only file."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    file = tmp_path / "registry" / "org" / "example" / "thing" / "1.0" / "thing-1.0.jar"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "registry")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", file
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def jar() -> Jar:
    return Jar("org.example", "thing", "1.0", "", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_a_jar_is_fetched_once(tmp_path: Path, registry: tuple[str, Path]) -> None:
    url, file = registry
    (path,) = jars.fetch([jar()], tmp_path / "cache", silent, repository=url)
    assert path.read_bytes() == CONTENT
    file.unlink()
    assert jars.fetch([jar()], tmp_path / "cache", silent, repository=url) == (path,)


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"", CONTENT + b"!", CONTENT.replace(b"test", b"tEst", 1)])
def test_a_damaged_jar_in_the_cache_is_fetched_again(tmp_path: Path, registry: tuple[str, Path], damage: bytes) -> None:
    (path,) = jars.fetch([jar()], tmp_path / "cache", silent, repository=registry[0])
    path.write_bytes(damage)
    jars.fetch([jar()], tmp_path / "cache", silent, repository=registry[0])
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT.replace(b"test", b"tEst", 1)])
def test_a_registry_with_another_file_than_the_lock_names_is_refused(
    tmp_path: Path, registry: tuple[str, Path], damage: bytes
) -> None:
    url, file = registry
    file.write_bytes(damage)
    with pytest.raises(DownloadError, match=r"thing-1.0.jar.*its sha256 is .*, the lock says .*never accepted"):
        jars.fetch([jar()], tmp_path / "cache", silent, repository=url)
    assert not jar().path(tmp_path / "cache").exists()
    assert list((tmp_path / "cache").glob("incoming-*")) == []


def test_a_registry_without_the_file_is_named(tmp_path: Path, registry: tuple[str, Path]) -> None:
    url, file = registry
    file.unlink()
    with pytest.raises(DownloadError, match=rf"thing-1.0.jar could not be fetched from {url}"):
        jars.fetch([jar()], tmp_path / "cache", silent, repository=url)


def test_an_unreachable_registry_is_reported_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    settings = StackSettings(cache=tmp_path / "cache", maven_url=url)
    stack = Stack(tmp_path / "home", parts={Part.KAFKA}, steps=(), settings=settings)
    with pytest.raises(DownloadError, match=rf"{url}.*Check the network.*HTTPS_PROXY.*BANKSTREAM_STACK_MAVEN_URL"):
        stack.up()
    assert not stack.running()
    stack.down(wipe=True)
