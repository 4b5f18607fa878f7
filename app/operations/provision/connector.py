"""Puts Debezium's configuration into Kafka Connect and waits until the connector streams.

Connect's status is not sufficient: it is RUNNING while the connector retries a lost replication slot. The connector streams if PostgreSQL
shows its slot as active. connector.json is the configuration; ops/connect/bank.json is a link to it, and the README there explains it.
It contains no secret, only the names of variables that Connect's own process resolves.
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
"""The limit for a task that fails, such as one that started before the database."""
RESTART_PAUSE_S: Final = 1.0


def configuration(catalogue: Catalogue) -> dict[str, str]:
    """Returns the connector's configuration as Connect stores it: that of the file plus the declared tables.

    Snapshots read tables in this order. The heartbeat is last: it is never empty, so its row always marks the end of a snapshot.
    """
    found = _shipped()
    *bank, heartbeat = found["table.include.list"].split(",")
    declared = [f"public.{table.name}" for table in catalogue.declared]
    found["table.include.list"] = ",".join((*bank, *declared, heartbeat))
    return found


def slot_name() -> str:
    """Returns the name of the replication slot that the connector reads."""
    return _shipped()["slot.name"]


def is_as_provisioned(client: ConnectClient, catalogue: Catalogue) -> bool:
    """Returns whether Connect has the connector with the provisioned configuration. ConnectorError if Connect does not answer."""
    return client.configuration() == {**configuration(catalogue), "name": client.settings.connector}


def provision(connect: ConnectSettings, source: SourceSettings, catalogue: Catalogue) -> bool:
    """Stores the configuration if Connect's differs, and waits until the connector streams. Returns whether it was stored.

    ConnectorError quotes Connect or the task. A failed task is first restarted up to MAX_RESTARTS times.
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
                    f"connector {client.settings.connector} failed {restarts + 1} times: {status.cause}. Remove the cause, and run "
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
                f"connector {client.settings.connector} does not stream after {client.settings.timeout_s} s: {problem}. See "
                "the log of Kafka Connect."
            )
        time.sleep(POLL_S)


def _slot_problem(source: SourceSettings, name: str) -> str:
    """Returns why the replication slot does not stream; empty if it does. ConnectorError if the slot is lost."""
    try:
        slot = read_slot(source, name)
    except SlotError as error:
        raise ConnectorError(str(error)) from None
    if slot is None:
        return f"PostgreSQL has no replication slot {name} yet"
    if slot.wal_status == "lost":
        raise ConnectorError(
            f"replication slot {name} is lost: PostgreSQL has removed WAL that was not read yet. {cure(name)}"
        )
    return "" if slot.active else f"replication slot {name} is not active"
