"""`bankstream watch`: runs the capture watcher."""

import logging.config


def watch() -> None:
    """Watch the connector and its replication slot, and restart a failed connector. Runs until SIGTERM.

    Serves metrics on BANKSTREAM_METRICS_PORT. Logs each problem when it begins and when it ends.
    """
    from app.config.settings import ConnectSettings, SourceSettings, WatchSettings, WorkerSettings, load
    from app.operations.capture import watcher
    from app.operations.capture.connect import ConnectClient
    from app.operations.provision.connector import slot_name
    from app.runtime import logs
    from app.runtime.worker import serve_metrics

    settings = load(WorkerSettings)
    logging.config.dictConfig(logs.config(settings, "watch"))
    watching = load(WatchSettings)
    serve_metrics(settings)
    stop = watcher.stopping()
    with ConnectClient(load(ConnectSettings)) as client:
        watcher.watch(
            watcher.Watcher(client, load(SourceSettings), slot_name(), watching),
            stop.wait,
            watching.interval_s,
        )
