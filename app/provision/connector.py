"""The connector: Debezium's configuration put into Kafka Connect, and the proof that it streams.

Connect's word is not enough: its status says RUNNING while a lost replication slot is being retried. What counts is the slot, which
PostgreSQL shows as active. connector.json is the configuration; ops/connect/bank.json is a link to it, and the README there explains it.
It holds no secret, only the names of variables that Connect's own process resolves.
"""

import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final, Self

import psycopg
import requests

from app.errors import one_line
from app.provision.errors import ConnectorError
from app.settings import ConnectSettings, SourceSettings

POLL_S: Final = 0.1
REQUEST_TIMEOUT_S: Final = (5, 60)
"""To connect and to answer. Connect answers a new configuration after it has tried the database with it."""
MAX_RESTARTS: Final = 5
"""Of a task that failed, such as one that started before the database did."""
RESTART_PAUSE_S: Final = 1.0


def configuration() -> dict[str, str]:
    """The connector's configuration as Connect stores it."""
    found: dict[str, str] = json.loads((files("app.provision") / "connector.json").read_text(encoding="utf-8"))
    return found


def provision(connect: ConnectSettings, source: SourceSettings) -> bool:
    """Put the connector into Connect if what is there differs, and wait until it streams; answers whether it was put.

    ConnectorError says what Connect or the task said. A task that failed is started again a few times first.
    """
    with Client(connect) as client:
        wanted = configuration()
        changed = client.configuration() != {**wanted, "name": connect.connector}
        deadline = time.monotonic() + connect.timeout_s
        if changed:
            client.put(wanted, deadline)
        _await_streaming(client, source, wanted["slot.name"], deadline)
    return changed


class Client:
    """Kafka Connect's REST interface, for one connector. Never through a proxy. Use as a context manager."""

    def __init__(self, settings: ConnectSettings) -> None:
        self.settings = settings
        self._root = settings.url.rstrip("/")
        self._base = f"{self._root}/connectors/{settings.connector}"
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def configuration(self) -> dict[str, str] | None:
        """What Connect has stored; None if it does not have the connector."""
        reply = self._request("GET", "/config")
        found: dict[str, str] | None = None if reply.status_code == HTTPStatus.NOT_FOUND else reply.json()
        return found

    def put(self, configuration: Mapping[str, str], deadline: float) -> None:
        """Store a configuration. Waits while Connect's workers agree on who does what, which it answers with 409."""
        while True:
            reply = self._request("PUT", "/config", dict(configuration))
            if reply.ok:
                return
            if reply.status_code != HTTPStatus.CONFLICT or time.monotonic() > deadline:
                problems = self._problems(configuration) or _message(reply)
                raise ConnectorError(
                    f"Kafka Connect at {self.settings.url} refuses connector {self.settings.connector}: {problems}. Its log says more; the "
                    "values behind ${env:…} are in its environment, BANKSTREAM_CONNECTOR_DATABASE_*."
                )
            time.sleep(POLL_S)

    def _problems(self, configuration: Mapping[str, str]) -> str:
        """What is wrong with a configuration. Asked for apart: Connect 4.2 answers a PUT of a wrong one with a fault of its own."""
        plugin = configuration.get("connector.class", "")
        reply = self._send("PUT", f"{self._root}/connector-plugins/{plugin}/config/validate", dict(configuration))
        if not reply.ok:
            return ""
        values = [entry["value"] for entry in reply.json()["configs"] if entry["value"]]
        return "; ".join(dict.fromkeys(error.rstrip(".") for value in values for error in value["errors"]))

    def status(self) -> "Status":
        """The state of the connector and its task."""
        reply = self._request("GET", "/status")
        if reply.status_code == HTTPStatus.NOT_FOUND:  # stored, but not yet known to the worker that answers
            return Status("UNASSIGNED", "")
        found = reply.json()
        parts = [found["connector"], *found["tasks"]]
        trace = next((part.get("trace", "") for part in parts if part["state"] == "FAILED"), "")
        states = {part["state"] for part in parts}
        if "FAILED" in states:
            return Status("FAILED", trace)
        if states == {"RUNNING"} and found["tasks"]:
            return Status("RUNNING", "")
        return Status("/".join(sorted(states)) if found["tasks"] else "UNASSIGNED", "")

    def restart(self) -> None:
        """Start what failed again, connector and task."""
        self._request("POST", "/restart?includeTasks=true&onlyFailed=true")

    def _request(self, method: str, path: str, body: Any = None) -> requests.Response:
        """About the connector; answers that pass by themselves, such as 409 and 404, are for the caller. ConnectorError otherwise."""
        reply = self._send(method, self._base + path, body)
        if reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and method == "GET":
            raise ConnectorError(f"Kafka Connect at {self.settings.url} failed: {_message(reply)}")
        return reply

    def _send(self, method: str, url: str, body: Any) -> requests.Response:
        try:
            return self._session.request(method, url, json=body, timeout=REQUEST_TIMEOUT_S)
        except requests.RequestException as error:
            raise ConnectorError(
                f"Kafka Connect at {self.settings.url} does not answer: {_reason(error)}. Check BANKSTREAM_CONNECT_URL, and that it runs."
            ) from None


class Status:
    """What Connect says of a connector: RUNNING, FAILED with a trace, or anything on the way there."""

    def __init__(self, state: str, trace: str) -> None:
        self.state, self.trace = state, trace


def _reason(error: requests.RequestException) -> str:
    """Of a request that failed: the innermost reason, as requests wraps it several times."""
    inner: BaseException = error
    while isinstance(
        reason := getattr(inner, "reason", None) or (inner.args[0] if inner.args else None), BaseException
    ):
        inner = reason
    return one_line(inner)


def _message(reply: requests.Response) -> str:
    try:
        return f"{reply.json()['message']} ({reply.status_code})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status_code}"


def _await_streaming(client: Client, source: SourceSettings, slot: str, deadline: float) -> None:
    restarts = 0
    restarted = 0.0
    while True:
        status = client.status()
        if status.state == "FAILED":
            if restarts == MAX_RESTARTS or time.monotonic() > deadline:
                raise ConnectorError(
                    f"connector {client.settings.connector} failed {restarts + 1} times: {_cause(status.trace)}. Correct that, and run "
                    "`bankstream provision connector` again."
                )
            if time.monotonic() - restarted > RESTART_PAUSE_S:
                restarts, restarted = restarts + 1, time.monotonic()
                client.restart()
        problem = f"its state is {status.state}"
        if status.state == "RUNNING":
            problem = _slot_problem(source, slot)
            if not problem:
                return
        if time.monotonic() > deadline:
            raise ConnectorError(
                f"connector {client.settings.connector} does not stream after {client.settings.timeout_s} s: {problem}. Look into the "
                "log of Kafka Connect."
            )
        time.sleep(POLL_S)


def _slot_problem(source: SourceSettings, slot: str) -> str:
    """Why the replication slot does not stream; empty if it does. ConnectorError if it never will."""
    try:
        with psycopg.connect(
            host=source.host,
            port=source.port,
            dbname=source.dbname,
            user=source.reader_user,
            password=source.reader_password.get_secret_value() if source.reader_password else None,
            sslmode=source.sslmode,
            connect_timeout=5,
        ) as connection:
            row = connection.execute(
                "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = %s", [slot]
            ).fetchone()
    except psycopg.OperationalError as error:
        raise ConnectorError(
            f"replication slot {slot} cannot be looked at as {source.reader_user}: {one_line(error)}. Check "
            "BANKSTREAM_POSTGRES_READER_*."
        ) from None
    if row is None:
        return f"PostgreSQL has no replication slot {slot} yet"
    active, wal_status = row
    if wal_status == "lost":
        raise ConnectorError(
            f"replication slot {slot} is lost: PostgreSQL has removed log that was not read yet. Stop Kafka Connect, drop the slot "
            f"(SELECT pg_drop_replication_slot('{slot}')), and start Connect: it reads all rows anew."
        )
    return "" if active else f"replication slot {slot} is not active"


def _cause(trace: str) -> str:
    """The innermost cause in a Java stack trace, on one line."""
    lines = [line.strip() for line in trace.splitlines() if line and not line.startswith(("\t", " "))]
    return (lines[-1].removeprefix("Caused by: ") if lines else "no reason given").rstrip(".")
