"""The connector: Debezium's configuration put into Kafka Connect, and the proof that it streams.

Connect's word is not enough: its status says RUNNING while a lost replication slot is being retried. What counts is the slot, which
PostgreSQL shows as active. connector.json is the configuration; ops/connect/bank.json is a link to it, and the README there explains it.
It holds no secret, only the names of variables that Connect's own process resolves.
"""

import json
import time
from importlib.resources import files
from typing import Final

from app.config.settings import ConnectSettings, SourceSettings
from app.config.topics import Catalogue
from app.operations.capture.connect import ConnectClient
from app.operations.capture.errors import ConnectorError
from app.operations.capture.slot import SlotError, cure, read_slot

POLL_S: Final = 0.1
MAX_RESTARTS: Final = 5
"""Of a task that failed, such as one that started before the database did."""
RESTART_PAUSE_S: Final = 1.0


def configuration(catalogue: Catalogue) -> dict[str, str]:
    """The connector's configuration as Connect stores it: the file's, with the tables that are declared beside the bank's own.

    Snapshots read tables in this order. The heartbeat stays last: it is never empty, and so always bears the mark of the end.
    """
    found = _shipped()
    *bank, heartbeat = found["table.include.list"].split(",")
    declared = [f"public.{table.name}" for table in catalogue.declared]
    found["table.include.list"] = ",".join((*bank, *declared, heartbeat))
    return found


def slot_name() -> str:
    """The replication slot that the connector reads from."""
    return _shipped()["slot.name"]


def is_as_provisioned(client: ConnectClient, catalogue: Catalogue) -> bool:
    """Whether Connect has the connector with our configuration. ConnectorError if Connect does not answer."""
    return client.configuration() == {**configuration(catalogue), "name": client.settings.connector}


def provision(connect: ConnectSettings, source: SourceSettings, catalogue: Catalogue) -> bool:
    """Put the connector into Connect if what is there differs, and wait until it streams; answers whether it was put.

    ConnectorError says what Connect or the task said. A task that failed is started again a few times first.
    """
    with ConnectClient(connect) as client:
        wanted = configuration(catalogue)
        changed = not is_as_provisioned(client, catalogue)
        deadline = time.monotonic() + connect.timeout_s
        if changed:
            client.put(wanted, deadline)
        _await_streaming(client, source, wanted["slot.name"], deadline)
    return changed


def _shipped() -> dict[str, str]:
    text = (files("app.operations.provision") / "connector.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def _await_streaming(client: ConnectClient, source: SourceSettings, slot: str, deadline: float) -> None:
    restarts = 0
    restarted = 0.0
    while True:
        status = client.status()
        if status.state == "FAILED":
            if restarts == MAX_RESTARTS or time.monotonic() > deadline:
                raise ConnectorError(
                    f"connector {client.settings.connector} failed {restarts + 1} times: {status.cause}. Correct that, and run "
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


def _slot_problem(source: SourceSettings, name: str) -> str:
    """Why the replication slot does not stream; empty if it does. ConnectorError if it never will."""
    try:
        slot = read_slot(source, name)
    except SlotError as error:
        raise ConnectorError(str(error)) from None
    if slot is None:
        return f"PostgreSQL has no replication slot {name} yet"
    if slot.wal_status == "lost":
        raise ConnectorError(
            f"replication slot {name} is lost: PostgreSQL has removed log that was not read yet. {cure(name)}"
        )
    return "" if slot.active else f"replication slot {name} is not active"
