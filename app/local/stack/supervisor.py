"""Runs supervisord for a stack: writes its configuration, starts and stops it, and calls it over its private socket."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xmlrpc.client import Fault, ServerProxy

import msgspec
import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from app.local.stack.errors import StackError
from app.local.stack.home import Home, State, atomic_write, digest, private_directory
from app.local.stack.part import Launch

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
OWNER_WATCHDOG: Final = Path(__file__).with_name("owner_watchdog.py")
START_SECONDS: Final = 10
"""A part that exits earlier than this counts as a failed start. Supervisor waits longer before each next attempt."""
START_RETRIES: Final = 8
"""After this many failed starts in a row supervisor stops restarting the part."""
LOG_BYTES: Final = 16 << 20
LOG_BACKUPS: Final = 3
DAEMON_TIMEOUT_S: Final = 30
INSTANCE_VARIABLE: Final = "BANKSTREAM_STACK_INSTANCE"
"""A variable in the environment of every process of a stack, by which orphaned processes are found."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """The supervisor's state of one process."""

    name: str
    state: str
    pid: int
    started: int
    """Unix time of the last start."""
    stopped: int
    """Unix time of the last exit; 0 if it has never exited."""
    exit_status: int
    """Exit status of the last exit; -1 after a signal, 0 if the process had only just started."""
    spawn_error: str

    @property
    def alive(self) -> bool:
        """Whether the process runs now."""
        return self.pid != 0

    @property
    def given_up(self) -> bool:
        """Whether supervisor no longer restarts the process."""
        return self.state == "FATAL"


class Supervisor:
    """The supervisord of one home."""

    def __init__(self, home: Home, state: State, owner: int | None = None) -> None:
        self._home, self._instance, self._owner = home, state.instance, owner
        self._socket = home.socket(state)

    def running(self) -> bool:
        """Returns whether supervisord answers."""
        try:
            self._rpc().getState()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def pid(self) -> int:
        """Returns supervisord's process id."""
        return int(self._call("getPID"))

    def start(self, launches: Mapping[str, Launch]) -> None:
        """Start the daemon with these programs. It starts none of them yet, except the owner watchdog if there is an owner."""
        if self._socket.parent != self._home.run:
            private_directory(self._socket.parent)
        self._write(launches)
        result = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._home.run / "supervisord.conf")],
            check=False, capture_output=True, text=True, cwd="/", timeout=DAEMON_TIMEOUT_S,
            env={**_clean_environment(), INSTANCE_VARIABLE: self._instance},
        )  # fmt: skip
        deadline = time.monotonic() + DAEMON_TIMEOUT_S
        while result.returncode == 0 and not self.running():
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            if result.returncode == 0:
                return
        raise StackError(
            f"supervisord did not start: {(result.stderr or result.stdout).strip() or 'no answer on its socket'}. "
            f"See {self._home.log('supervisord')}."
        )

    def update(self, launches: Mapping[str, Launch]) -> None:
        """Give the running daemon these programs. New ones are added; changed and removed ones are stopped."""
        self._write(launches)
        ((added, changed, removed),) = self._call("reloadConfig")
        for name in (*changed, *removed):
            self.stop(name)
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def processes(self) -> dict[str, ProcessInfo]:
        """Returns every process by name."""
        return {
            info["name"]: ProcessInfo(
                info["name"],
                info["statename"],
                info["pid"],
                info["start"],
                info["stop"],
                info["exitstatus"],
                info["spawnerr"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def begin(self, name: str) -> None:
        """Start one process if it does not run. Does not wait until it is ready."""
        self._call("startProcess", name, False, ignore=(Faults.ALREADY_STARTED,))

    def stop(self, name: str) -> None:
        """Stop one process and wait until it has exited."""
        self._call("stopProcess", name, True, ignore=(Faults.NOT_RUNNING,))

    def signal(self, name: str, signal_name: str) -> None:
        """Send a signal to one process."""
        self._call("signalProcess", name, signal_name)

    def stop_owner_watchdog(self) -> None:
        """Stop the owner watchdog if there is one. From then on the caller is responsible for stopping the stack."""
        self._call("stopProcess", "owner-watchdog", True, ignore=(Faults.NOT_RUNNING, Faults.BAD_NAME))

    def shutdown(self) -> None:
        """Shut the daemon down, which stops all running processes, and wait until it has exited."""
        daemon = psutil.Process(self.pid())
        self._call("shutdown")
        daemon.wait(120)

    def _write(self, launches: Mapping[str, Launch]) -> None:
        sections: dict[str, Mapping[str, object]] = {
            "unix_http_server": {
                "file": "%(here)s/supervisor.sock" if self._socket.parent == self._home.run else str(self._socket),
                "chmod": "0600",
            },
            "supervisord": {
                "pidfile": "%(here)s/supervisord.pid",
                "logfile": "%(here)s/../logs/supervisord.log",
                "logfile_maxbytes": LOG_BYTES,
                "logfile_backups": 1,
                "umask": "022",
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
        }
        if self._owner is not None:
            sections["program:owner-watchdog"] = {
                "command": f'"{_escaped(sys.executable)}" -I -S "{_escaped(str(OWNER_WATCHDOG))}" {self._owner}',
                "stdout_logfile": "NONE",
                "stderr_logfile": "NONE",
            }
        for name, launch in launches.items():
            content = msgspec.json.format(msgspec.json.encode(_document(launch, self._instance)))
            atomic_write(self._home.run / f"{name}.json", content)
            sections[f"program:{name}"] = {
                "command": f'"{_escaped(sys.executable)}" -I -S "{_escaped(str(LAUNCHER))}" '
                f'"%(here)s/{name}.json" {self._revision(name, content)}',
                "autostart": "false",
                "autorestart": "true",
                "startsecs": START_SECONDS,
                "startretries": START_RETRIES,
                "stopsignal": launch.stop_signal,
                "stopwaitsecs": launch.stop_wait_s,
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": f"%(here)s/../logs/{name}.log",
                "stdout_logfile_maxbytes": LOG_BYTES,
                "stdout_logfile_backups": LOG_BACKUPS,
            }
        text = "\n".join(
            f"[{section}]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
            for section, values in sections.items()
        )
        atomic_write(self._home.run / "supervisord.conf", text)

    def _revision(self, name: str, content: bytes) -> str:
        """Returns a hash of the launch file and the Java arguments, without the ahead-of-time cache."""
        arguments = self._home.run / f"{name}.args"
        lines = arguments.read_text().splitlines() if arguments.exists() else []
        return digest(content, *(line for line in lines if "-XX:AOTCache" not in line))

    def _rpc(self) -> Any:
        # supervisor's classes have no types, and xmlrpc's proxy accepts any method name
        return ServerProxy(
            "http://localhost", transport=SupervisorTransport(serverurl=f"unix://{self._socket}")
        ).supervisor

    def _call(self, method: str, *arguments: object, ignore: tuple[int, ...] = ()) -> Any:
        try:
            return getattr(self._rpc(), method)(*arguments)
        except Fault as fault:
            if fault.faultCode in ignore:
                return None
            raise StackError(
                f"supervisor refuses {method} {' '.join(map(str, arguments))}: {fault.faultString}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise StackError(
                f"the stack in {self._home.path} is not running (its supervisor does not answer: {error}). "
                "Start it: bankstream stack up"
            ) from None


def _document(launch: Launch, instance: str) -> dict[str, object]:
    return {
        "argv": launch.argv,
        "environment": {**launch.environment, INSTANCE_VARIABLE: instance},
        "user": launch.user,
        "stop_signal": launch.stop_signal,
        "yields": launch.yields,
    }


def _clean_environment() -> dict[str, str]:
    """Returns the caller's environment without settings of the stack: each part gets exactly those in its launch file."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("BANKSTREAM_", "PG", "AWS_", "KAFKA_"))
    }


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
