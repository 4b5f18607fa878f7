"""Routes the workers or the connector of a bank through a proxy, and back."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from app.config.settings import ConnectSettings, SourceSettings
from app.operations.capture.connect import ConnectClient
from app.operations.provision import connector
from tests.faults.bank import Bank
from tests.support.catalogue import CATALOGUE
from tests.support.machine.stack import settings_of

CONNECTOR_TIMEOUT_S: Final = 60


def restart(bank: Bank, names: Sequence[str]) -> None:
    """Restarts these workers at the same time, with SIGTERM and their current settings. Returns when they are ready."""
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(bank.workers.restart, names))
    bank.workers.ready(*names)


@contextmanager
def workers(bank: Bank, names: Sequence[str], variables: Mapping[str, str]) -> Iterator[None]:
    """Runs these workers with other settings inside the block."""
    before = {name: dict(bank.workers.worker(name).environment) for name in names}
    for name in names:
        bank.workers.worker(name).environment = {**before[name], **variables}
    restart(bank, names)
    try:
        yield
    finally:
        for name in names:
            bank.workers.worker(name).environment = before[name]
        restart(bank, names)


@contextmanager
def capture(bank: Bank, changes: Mapping[str, str]) -> Iterator[None]:
    """Runs the connector with another configuration inside the block."""
    connect = settings_of(bank.environment, ConnectSettings)
    source = settings_of(bank.environment, SourceSettings)
    with ConnectClient(connect) as client:
        client.put({**connector.configuration(CATALOGUE), **changes}, time.monotonic() + CONNECTOR_TIMEOUT_S)
    try:
        yield
    finally:
        connector.provision(connect, source, CATALOGUE)
