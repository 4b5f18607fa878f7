"""The connector: Debezium's configuration put into Kafka Connect, and the proof that it streams.

Connect's word is not enough: its status says RUNNING while a lost replication slot is being retried. What counts is the slot, which
PostgreSQL shows as active. connector.json is the configuration; ops/connect/bank.json is a link to it, and the README there explains it.
It holds no secret, only the names of variables that Connect's own process resolves.
"""

import json
import time
from importlib.resources import files
from typing import Final

import psycopg

from app.captured import captured_tables
from app.errors import one_line
from app.provision.connect import Client
from app.provision.errors import ConnectorError
from app.settings import ConnectSettings, SourceSettings
from app.topics import others

POLL_S: Final = 0.1
MAX_RESTARTS: Final = 5
"""Of a task that failed, such as one that started before the database did."""
RESTART_PAUSE_S: Final = 1.0


def configuration() -> dict[str, str]:
    """The connector's configuration as Connect stores it: the file's, with the tables that are declared beside the bank's own.

    Snapshots read tables in this order. The heartbeat stays last: it is never empty, and so always bears the mark of the end.
    """
    found: dict[str, str] = json.loads((files("app.provision") / "connector.json").read_text(encoding="utf-8"))
    *bank, heartbeat = found["table.include.list"].split(",")
    declared = [f"public.{table.name}" for table in others(captured_tables())]
    found["table.include.list"] = ",".join((*bank, *declared, heartbeat))
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
