"""Runs a program as a user without privileges, also when the tests themselves run as root."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

USER = "nobody"
TIMEOUT_S = 180


def as_ordinary_user(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs `command` with an empty directory that this user owns, as its home and as its last argument.

    Other users may not have access to root's Python (below /root) and /tmp. In a separate mount namespace the program sees a directory
    that contains only this Python, and an empty /tmp. Skips the test where root may not create such a namespace.
    """
    scratch = Path(tempfile.mkdtemp(prefix="bankstream-user-", dir="/var/tmp"))
    try:
        return _as_ordinary_user(command, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _as_ordinary_user(command: Sequence[str], scratch: Path) -> subprocess.CompletedProcess[str]:
    scratch.chmod(0o755)
    home = scratch / "user"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(PROJECT)}
    stack = str(home / "stack")
    if os.geteuid() != 0:
        return _run([*command, stack], environment)
    os.chown(home, *_ids())
    drop = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", "--no-new-privs", *command, stack]
    python, project = Path(sys.base_prefix).resolve(), PROJECT
    closed = [folder for folder in python.parents if not folder.stat().st_mode & 0o001]
    hidden = [Path("/tmp"), *closed[-1:]]
    needed = [
        path
        for path in (python, project, *([] if Path(sys.prefix).is_relative_to(project) else [Path(sys.prefix)]))
        if any(path.is_relative_to(folder) for folder in hidden)
    ]
    shelters = {path: scratch / f"shelter-{number}" for number, path in enumerate(needed)}
    for shelter in shelters.values():
        shelter.mkdir()
    steps: list[list[str | Path]] = [["mount", "--bind", path, shelter] for path, shelter in shelters.items()]
    steps += [
        ["mount", "-t", "tmpfs", "-o", "mode=1777" if folder == hidden[0] else "mode=755", "tmpfs", folder]
        for folder in hidden
    ]
    for path, shelter in shelters.items():
        steps += [["mkdir", "-p", path], ["mount", "--bind", shelter, path]]
    exec_step: list[str | Path] = ["exec", *drop]
    script = " && ".join(shlex.join([str(word) for word in step]) for step in (*steps, exec_step))
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let root make a mount namespace")
    return _run(["unshare", "--mount", "sh", "-c", script], environment)


def _run(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, cwd="/"
    )


def _ids() -> tuple[int, int]:
    import grp  # noqa: PLC0415 - not on every platform that these tests are read on
    import pwd  # noqa: PLC0415

    return pwd.getpwnam(USER).pw_uid, grp.getgrnam("nogroup").gr_gid
