"""Runs Kafka Connect with Debezium as one distributed worker, with exactly-once support for sources.

The connector's stored configuration holds no secrets. It names variables that the `env` config provider resolves inside this process.
"""

from collections.abc import Mapping
from typing import Final

import requests

from app.local.stack import jars, java
from app.local.stack.home import os_errors_as_home_errors
from app.local.stack.http import loopback
from app.local.stack.part import Context, Definition, Launch, NotReadyError, Part

MAIN: Final = "org.apache.kafka.connect.cli.ConnectDistributed"
DEBEZIUM: Final = "io.debezium.connector.postgresql.PostgresConnector"

CONFIGURATION: Final[Mapping[str, object]] = {
    "group.id": "bank-connect",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.schemas.enable": "false",
    "offset.storage.topic": "bank.connect.offsets",
    "offset.storage.partitions": 1,
    "offset.storage.replication.factor": 1,
    "config.storage.topic": "bank.connect.configs",
    "config.storage.replication.factor": 1,
    "status.storage.topic": "bank.connect.status",
    "status.storage.partitions": 1,
    "status.storage.replication.factor": 1,
    "exactly.once.source.support": "enabled",
    "plugin.discovery": "service_load",
    "connector.client.config.override.policy": "All",
    "topic.creation.enable": "false",  # provisioning creates the topics from the catalogue
    "config.providers": "env",
    "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "config.providers.env.param.allowlist.pattern": "^BANKSTREAM_CONNECTOR_.*",
    "session.timeout.ms": 3000,  # the task of a killed worker restarts after 3 s instead of 10 s
    "heartbeat.interval.ms": 1000,
    "scheduled.rebalance.max.delay.ms": 0,  # there is no other worker to wait for
    "offset.flush.interval.ms": 5000,
    "producer.retry.backoff.ms": 5,  # the retries while the last transaction is completing take 100, 200 and 400 ms otherwise
    "producer.retry.backoff.max.ms": 50,
}


def url(context: Context) -> str:
    """Returns the URL of Connect's REST interface."""
    return f"http://127.0.0.1:{context.port('connect')}"


def _prepare(context: Context) -> None:
    directory = context.home.data("connect")
    plugin = directory / "plugins" / "debezium"
    with os_errors_as_home_errors(directory):
        directory.mkdir(exist_ok=True, mode=0o700)
        plugin.mkdir(exist_ok=True, parents=True)
        for link in plugin.iterdir():
            link.unlink()
        for jar in jars.locked("debezium"):
            (plugin / jar.name).symlink_to(jar.path(context.cache))
    java.properties_file(
        directory / "connect.properties",
        {
            **CONFIGURATION,
            "bootstrap.servers": f"127.0.0.1:{context.port('kafka')}",
            "listeners": url(context),
            "plugin.path": plugin.parent,
        },
    )


def _launch(context: Context) -> Launch:
    return Launch(
        java.argv(context, "connect", MAIN, context.home.data("connect") / "connect.properties", heap_mb=512),
        environment={
            "BANKSTREAM_CONNECTOR_DATABASE_HOST": "127.0.0.1",
            "BANKSTREAM_CONNECTOR_DATABASE_PORT": context.environment.get("BANKSTREAM_POSTGRES_PORT", ""),
            "BANKSTREAM_CONNECTOR_DATABASE_NAME": context.environment.get("BANKSTREAM_POSTGRES_DBNAME", ""),
            "BANKSTREAM_CONNECTOR_DATABASE_USER": context.environment.get("BANKSTREAM_POSTGRES_REPLICATION_USER", ""),
            "BANKSTREAM_CONNECTOR_DATABASE_PASSWORD": context.secrets.postgres_replication,
            "BANKSTREAM_CONNECTOR_DATABASE_SSLMODE": "disable",
        },
    )


def _check(context: Context) -> None:
    try:
        with loopback() as session:
            reply = session.get(f"{url(context)}/connector-plugins", timeout=(1, 10))
            reply.raise_for_status()
            plugins = {plugin["class"] for plugin in reply.json()}
    except requests.RequestException as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    if DEBEZIUM not in plugins:
        raise NotReadyError(f"Connect runs without {DEBEZIUM}")


def _stopped(context: Context) -> None:
    java.keep_cache(context, "connect", MAIN)


CONNECT: Final = Definition(Part.CONNECT, ("connect",), _prepare, _launch, _check, _stopped, frozenset({Part.KAFKA}))
