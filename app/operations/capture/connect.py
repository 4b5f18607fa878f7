"""A client of Kafka Connect's REST interface for one connector."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self

import requests

from app.config.settings import ConnectSettings
from app.errors import one_line
from app.operations.capture.errors import ConnectorError

POLL_S: Final = 0.1
REQUEST_TIMEOUT_S: Final = (5, 60)
"""Limits for connecting and for the reply. Connect replies to a new configuration only after it has tried the database with it."""


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """The state of a connector and its task: RUNNING, FAILED with a Java stack trace, or a transitional state."""

    state: str
    trace: str = ""

    @property
    def cause(self) -> str:
        """The innermost cause of a failure, on one line."""
        lines = [line.strip() for line in self.trace.splitlines() if line and not line.startswith(("\t", " "))]
        return (lines[-1].removeprefix("Caused by: ") if lines else "no reason given").rstrip(".")


class ConnectClient:
    """A client of Kafka Connect's REST interface for one connector. It never uses a proxy. Use it as a context manager."""

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
        """Returns the stored configuration; None if Connect does not have the connector."""
        reply = self._request("GET", "/config")
        found: dict[str, str] | None = None if reply.status_code == HTTPStatus.NOT_FOUND else reply.json()
        return found

    def put(self, configuration: Mapping[str, str], deadline: float) -> None:
        """Stores a configuration. While Connect rebalances it replies 409; this is retried until `deadline` (time.monotonic)."""
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
        """Returns the errors of a configuration. A separate request: Connect 4.2 replies to a PUT of a wrong one with an internal error."""
        plugin = configuration.get("connector.class", "")
        reply = self._send("PUT", f"{self._root}/connector-plugins/{plugin}/config/validate", dict(configuration))
        if not reply.ok:
            return ""
        values = [entry["value"] for entry in reply.json()["configs"] if entry["value"]]
        return "; ".join(dict.fromkeys(error.rstrip(".") for value in values for error in value["errors"]))

    def status(self) -> ConnectorStatus:
        """Returns the state of the connector and its task."""
        reply = self._request("GET", "/status")
        if not reply.ok:  # stored, but not yet known to the worker that replies, or Connect rebalances
            return ConnectorStatus("UNASSIGNED")
        found = reply.json()
        parts = [found["connector"], *found["tasks"]]
        trace = next((part.get("trace", "") for part in parts if part["state"] == "FAILED"), "")
        states = {part["state"] for part in parts}
        if "FAILED" in states:
            return ConnectorStatus("FAILED", trace)
        if states == {"RUNNING"} and found["tasks"]:
            return ConnectorStatus("RUNNING")
        return ConnectorStatus("/".join(sorted(states)) if found["tasks"] or "STOPPED" in states else "UNASSIGNED")

    def captured_lsn(self) -> int | None:
        """Returns the LSN of the last captured change, from the connector's stored offsets; None before the first."""
        reply = self._request("GET", "/offsets")
        if not reply.ok:
            return None
        found = [entry["offset"] for entry in reply.json()["offsets"] if entry["offset"]]
        lsns = [int(offset[key]) for offset in found for key in ("lsn_proc", "lsn") if offset.get(key) is not None]
        return max(lsns, default=None)

    def restart(self) -> None:
        """Restarts the connector and its task, each only if it has failed."""
        self._request("POST", "/restart?includeTasks=true&onlyFailed=true")

    def _request(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Sends a request about the connector. Returns 4xx replies, such as 404 and 409. ConnectorError for a GET that fails with 5xx."""
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


def _reason(error: requests.RequestException) -> str:
    """Returns the innermost reason of a failed request; the requests library wraps it several times."""
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
