"""Tests that the running stack shows no secret to other users of the machine, and listens on loopback only."""

import ipaddress
import os
import stat
import subprocess
import sys

import msgspec
import psutil
import pytest

from app.local.stack.home import Secrets
from app.local.stack.orphans import find_orphans
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from tests.support.machine.stack import StackPool

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(stack_pool: StackPool) -> Stack:
    return stack_pool.get(Part.POSTGRES, Part.KAFKA, Part.S3, Part.WAREHOUSE)


@pytest.fixture(scope="module")
def secrets(stack: Stack) -> tuple[str, ...]:
    found = stack.home.load_secrets()
    assert found is not None
    values: dict[str, str] = msgspec.structs.asdict(found)
    assert all(len(value) >= 20 for value in values.values())
    return tuple(value for name, value in values.items() if name != "s3_access_key_id")


@pytest.fixture(scope="module")
def processes(stack: Stack) -> list[psutil.Process]:
    state = stack.home.load_state()
    assert state is not None
    found = find_orphans(state.instance)
    assert {process.name() for process in found} >= {"postgres", "java", "weed"}
    return found


def test_no_secret_is_on_a_command_line(processes: list[psutil.Process], secrets: tuple[str, ...]) -> None:
    lines = [" ".join(process.cmdline()) for process in processes]
    assert any("warehouse_server" in line for line in lines)
    assert [line for line in lines for secret in secrets if secret in line] == []


def test_no_secret_is_in_a_log(stack: Stack, secrets: tuple[str, ...]) -> None:
    logs = {path.name: path.read_bytes() for path in stack.home.logs.iterdir()}
    assert logs.keys() >= {"postgres.log", "kafka.log", "s3.log", "warehouse.log", "supervisord.log"}
    assert [name for name, content in logs.items() for secret in secrets if secret.encode() in content] == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_shows_no_secret(stack: Stack, secrets: tuple[str, ...], options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "stack", "status", *options],
        check=False, capture_output=True, text=True, timeout=60,
        env=os.environ | {"BANKSTREAM_HOME": str(stack.home.path)},
    )  # fmt: skip
    assert "postgres" in done.stdout
    assert [secret for secret in secrets if secret in done.stdout + done.stderr] == []


def test_files_with_secrets_are_for_their_owner_alone(stack: Stack, secrets: tuple[str, ...]) -> None:
    known = {stack.home.path / "secrets.json"}
    for folder in (stack.home.path, stack.home.run):
        for path in folder.iterdir():
            if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets):
                known.add(path)
    assert len(known) > 1, "the launch files have them too"
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in known} == dict.fromkeys(known, 0o600)


def test_the_repr_of_the_secrets_shows_none() -> None:
    names = Secrets.__struct_fields__
    assert "hidden-value" not in repr(Secrets(**dict.fromkeys(names, "hidden-value")))


def test_every_listener_is_on_loopback(stack: Stack, processes: list[psutil.Process]) -> None:
    ids = {process.pid for process in processes}
    listeners = [
        connection.laddr
        for connection in psutil.net_connections("inet")
        if connection.pid in ids and connection.status == psutil.CONN_LISTEN and connection.laddr
    ]
    state = stack.home.load_state()
    assert state is not None
    assert {address.port for address in listeners} >= {
        state.ports[name] for name in ("postgres", "kafka", "s3", "warehouse")
    }
    open_to_others = [address for address in listeners if not loopback(address.ip)]
    assert open_to_others == []


def loopback(text: str) -> bool:
    """Whether an address is loopback, also for an IPv4 address in the form of a dual-stack socket."""
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
