"""Runs the warehouse server until SIGTERM (`python -m app.local.stack.warehouse_server`), with settings from the environment."""

import gc
import logging
from typing import Final

from app.config.settings import WarehouseServerSettings, load
from app.local.stack.warehouse_server.server import Server

COLLECT_AFTER: Final = (50_000, 20, 100)
"""Thresholds of Python's garbage collector, by generation. Parsing a statement creates tens of thousands of short-lived syntax nodes; with
the default thresholds, traversing them took a tenth of the server's processor time."""

if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    server = Server(load(WarehouseServerSettings))
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    server.run()
