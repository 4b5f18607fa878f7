"""Runs the three kinds of worker and the capture watcher, which start last and stop first."""

import os
import sys
from dataclasses import dataclass
from typing import Final

import requests

from app.local.stack.home import atomic_write, os_errors_as_home_errors
from app.local.stack.http import loopback
from app.local.stack.part import Context, Definition, Launch, NotReadyError, Part
from app.web import tokens

READY: Final = "bankstream_ready 1.0"
"""The line in a worker's metrics that shows that it is ready."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a process is started, the metrics line that shows that it is ready, and the problem to report without that line."""

    command: tuple[str, ...]
    ready: str = READY
    unready: str = "it has not opened its partitions yet"
    needs: frozenset[Part] = frozenset({Part.KAFKA})
    serves: bool = False
    """Whether the process serves the lookup API."""
    yields: bool = False
    """See `Launch.yields`."""


_KINDS: Final = {
    Part.STREAMS: _Kind(("worker", "streams"), serves=True),
    Part.LAKE: _Kind(("worker", "lake"), yields=True),
    Part.LOADER: _Kind(("worker", "warehouse"), yields=True),
    Part.WATCH: _Kind(
        ("watch",),
        ready="bankstream_capture_running 1.0",
        unready="the connector does not run yet",
        needs=frozenset({Part.CONNECT, Part.POSTGRES}),
    ),
}
TOKENS: Final = "api-tokens.toml"
CLIENT: Final = "local"
SCOPES: Final = ("lookup", "alerts", "metrics")
"""Scopes of the stack's own token. `pii` is not among them: personal data needs a separate token."""
DRAIN_S: Final = 40
"""Workers drain within 30 s of SIGTERM. One that takes longer is killed, which loses no data."""


def process_names(part: Part, streams_workers: int) -> tuple[str, ...]:
    """Returns the names of a part's processes: several for streams, one for every other part."""
    if part is Part.STREAMS:
        return tuple(f"{part}-{index}" for index in range(1, streams_workers + 1))
    return (part.value,)


def definition(part: Part, name: str) -> Definition:
    """Returns the definition of the worker process `name` of this part."""
    kind = _KINDS[part]

    def prepare(context: Context) -> None:
        directory = context.home.data("state") / name
        with os_errors_as_home_errors(directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if kind.serves:
            _allow(context)

    def launch(context: Context) -> Launch:
        tuning = {
            key: value
            for key, value in os.environ.items()
            if key.startswith("BANKSTREAM_") and not key.startswith("BANKSTREAM_STACK_")
        }
        return Launch(
            (sys.executable, "-m", "app.cli", *kind.command),
            environment={
                **tuning,
                **context.environment,
                "BANKSTREAM_ENGINE_STATE_DIR": str(context.home.data("state") / name),
                "BANKSTREAM_METRICS_PORT": str(context.port(metrics_port(name))),
                **(_api(context, name) if kind.serves else {}),
            },
            stop_wait_s=DRAIN_S,
            yields=kind.yields,
        )

    def check(context: Context) -> None:
        url = f"http://127.0.0.1:{context.port(metrics_port(name))}/metrics"
        try:
            with loopback() as session:
                found = session.get(url, timeout=(1, 5)).text
        except requests.RequestException as error:
            raise NotReadyError(f"{type(error).__name__}: {error}") from None
        if kind.ready not in found:
            raise NotReadyError(kind.unready)

    ports = (metrics_port(name), *((api_port(name),) if kind.serves else ()))
    return Definition(part, ports, prepare, launch, check, needs=kind.needs)


def metrics_port(name: str) -> str:
    """Returns the name of a worker's metrics port."""
    return f"{name.replace('-', '_')}_metrics"


def api_port(name: str) -> str:
    """Returns the name of the port of a worker's lookup API."""
    return f"{name.replace('-', '_')}_api"


def _allow(context: Context) -> None:
    """Add the stack's own token to the tokens file. Other tokens in the file stay."""
    path = context.home.data("state") / TOKENS
    with os_errors_as_home_errors(path):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    if tokens.digest(context.secrets.api).hex() not in before:
        atomic_write(path, before + tokens.entry(CLIENT, context.secrets.api, SCOPES))


def _api(context: Context, name: str) -> dict[str, str]:
    return {
        "BANKSTREAM_API_HOST": "127.0.0.1",
        "BANKSTREAM_API_PORT": str(context.port(api_port(name))),
        "BANKSTREAM_API_TOKENS_FILE": str(context.home.data("state") / TOKENS),
    }
