"""`bankstream watch`: the watcher of the capture from the command line."""

import logging.config


def watch() -> None:
    """Watch the connector and its replication slot, and start a failed connector again. Runs until SIGTERM.

    Serves metrics on BANKSTREAM_METRICS_PORT. What it finds is logged when it begins and when it ends.
    """
    from app import logs
    from app.capture import watcher
    from app.provision.connect import Client
    from app.provision.connector import configuration
    from app.settings import ConnectSettings, SourceSettings, WatchSettings, WorkerSettings, load
    from app.worker import serve_metrics

    settings = load(WorkerSettings)
    logging.config.dictConfig(logs.config(settings, "watch"))
    watching = load(WatchSettings)
    serve_metrics(settings)
    stop = watcher.stopping()
    with Client(load(ConnectSettings)) as client:
        watcher.watch(
            watcher.Watcher(client, load(SourceSettings), configuration()["slot.name"], watching),
            stop.wait,
            watching.interval_s,
        )
