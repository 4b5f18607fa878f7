"""`python -m app.stack.warehouse_server`: serves until SIGTERM, with settings from the environment."""

import logging

from app.settings import WarehouseServerSettings, load
from app.stack.warehouse_server.server import Server

if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    Server(load(WarehouseServerSettings)).run()
