"""Tests the API as it is served: real sockets, uvicorn, and the connections between two workers with state in memory."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiokafka import TopicPartition

from app.config.settings import ApiSettings, KafkaSettings, SnowflakeSettings
from app.errors import SettingsError
from app.web import service
from app.web.address import address
from app.web.partition_router import CUSTOMER
from app.web.service import ApiService
from app.web.tokens import read
from tests.support.web.lookups import Bank


class Served:
    """A bank's API on its own port."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        bank.worker.url = self.url
        bank.worker.elsewhere = {TopicPartition(CUSTOMER.topic, 0): self.url}
        self.service = ApiService(cast("Any", None), bank.parts(), self.listener, bank.settings)


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Served, Served]]:
    """Two workers with the same tokens. The second owns customer 7, and the first knows that."""

    async def idle(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("app.web.alerts.RecentAlerts.run", idle)  # there is no Kafka
    banks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        banks.append(Bank(tmp_path / name, history_timeout_s=2))
    banks[0].tokens = banks[1].tokens
    banks[0].write_tokens(banks[1].tokens)
    first, second = map(Served, banks)
    banks[1].customer()
    banks[0].worker.elsewhere = {TopicPartition(CUSTOMER.topic, 0): second.url}
    for one in (first, second):
        await one.service.start()
    try:
        yield first, second
    finally:
        for one in (first, second):
            await one.service.stop()
            one.listener.close()


async def get(served: Served, path: str, client: str = "clerk", **headers: str) -> tuple[int, Any]:
    headers["Authorization"] = f"Bearer {served.bank.tokens[client]}"
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(served.url + path, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_a_worker_forwards_a_request_to_the_owner_of_the_key(two: tuple[Served, Served]) -> None:
    first, second = two
    status, body = await get(first, "/v1/customers/7", **{"X-Request-ID": "r-1"})
    assert (status, body["attributes"]["name"]) == (200, "***")
    assert (await get(first, "/v1/customers/7", "officer"))[1]["attributes"]["name"] != "***"
    assert (await get(first, "/v1/customers/7/versions?limit=1", "officer"))[1]["total"] == 1
    assert (await get(first, "/v1/customers/8"))[0] == 404
    there, here = second.bank.audited, first.bank.audited
    assert [it["status"] for it in there] == [it["status"] for it in here] == [200, 200, 200, 404]
    assert all(it["forwarded"] for it in there)
    assert not any(it.get("forwarded") for it in here)
    assert there[0]["request_id"] == here[0]["request_id"] == "r-1"


async def test_an_owner_in_a_rebalance_or_without_a_response_is_503_with_when_to_ask_again(
    two: tuple[Served, Served],
) -> None:
    first, second = two
    second.bank.worker.is_ready = False
    assert (await get(first, "/v1/customers/7"))[0] == 503
    await second.service.stop()
    status, body = await get(first, "/v1/customers/7")
    assert (status, body["status"]) == (503, 503)


async def test_a_request_does_not_loop_between_two_workers_that_name_each_other_as_owner(
    two: tuple[Served, Served],
) -> None:
    first, second = two
    second.bank.worker.elsewhere = {TopicPartition(CUSTOMER.topic, 0): first.url}
    second.bank.worker.open = False
    assert (await get(first, "/v1/customers/7"))[0] == 503
    assert len(second.bank.audited) == 1
    assert len(first.bank.audited) == 1


async def test_a_client_that_connects_and_sends_no_request_is_disconnected(
    two: tuple[Served, Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HEADER_TIMEOUT_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", two[0].listener.getsockname()[1])
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_head_that_is_too_large_is_refused(two: tuple[Served, Served]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", two[0].listener.getsockname()[1])
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (service.MAX_HEADER_BYTES + 70_000))
    async with asyncio.timeout(10):
        assert b" 400 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"tokens_file": None}, "BANKSTREAM_API_TOKENS_FILE"),
        ({"host": "0.0.0.0"}, "unencrypted on 0.0.0.0"),  # noqa: S104 - it is refused
        ({"tls_certfile": Path("none.pem")}, "certificate none.pem cannot be used"),
        ({"tokens_file": Path("none.toml")}, "none.toml: No such file"),
        ({"audit_file": Path("none/audit")}, "none/audit: No such file"),
    ],
)
def test_unsafe_or_unusable_settings_of_the_api_are_refused(
    tmp_path: Path, changes: dict[str, Any], wrong: str
) -> None:
    bank = Bank(tmp_path)
    settings = ApiSettings(tokens_file=bank.tokens_file, port=1).model_copy(update=changes)
    with pytest.raises(SettingsError, match=wrong):
        service.serve(cast("Any", SimpleNamespace()), settings, KafkaSettings(), SnowflakeSettings())


def test_a_port_in_use_is_reported_with_its_setting(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ApiSettings(tokens_file=bank.tokens_file, port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="BANKSTREAM_API_PORT to a free port"):
            service.serve(cast("Any", SimpleNamespace()), settings, KafkaSettings(), SnowflakeSettings())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"port": 0}, None),
        ({"port": 8443}, "http://127.0.0.1:8443"),
        ({"port": 8443, "host": "::1"}, "http://[::1]:8443"),
        ({"port": 8443, "host": "10.0.0.5", "tls_certfile": Path("x")}, "https://10.0.0.5:8443"),
        ({"port": 8443, "url": "https://worker-3.bank.test/"}, "https://worker-3.bank.test"),
    ],
)
def test_the_advertised_address(changes: dict[str, Any], expected: str | None) -> None:
    assert address(ApiSettings().model_copy(update=changes)) == expected


def test_the_command_generates_a_valid_entry_of_the_tokens_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "api-token", "fraud-desk", "--scope", "alerts", "--scope", "pii"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    file = tmp_path / "tokens.toml"
    file.write_text(done.stdout)
    (client,) = read(file)
    assert (client.name, client.scopes) == ("fraud-desk", frozenset({"alerts", "pii"}))
    assert done.stderr.strip() not in done.stdout
    assert json.dumps(done.stderr.strip()).startswith('"bst_')
