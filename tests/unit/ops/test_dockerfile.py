"""Tests Dockerfile and .dockerignore (pinned, hashed, without root or secrets) and the health check of the images."""

import re
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from app.engine import metrics
from app.runtime import health
from tests.support.machine.tools import BIN
from tests.support.paths import PROJECT

DOCKERFILE: Final = PROJECT / "Dockerfile"
IGNORE: Final = PROJECT / ".dockerignore"

EXACT: Final = re.compile(r"^[\w./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$")


@dataclass(slots=True)
class Stage:
    """A FROM and its instructions. `user` is the user of its processes."""

    name: str
    base: str
    user: str = "root"
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def has(self, word: str) -> bool:
        """Whether this stage itself has an instruction."""
        return any(found == word for found, _ in self.instructions)


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments. Continued lines are joined, and comments are removed."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages(text: str) -> dict[str, Stage]:
    """The stages by name, in order."""
    found: dict[str, Stage] = {}
    stage = Stage("", "")
    for word, rest in instructions(text):
        if word == "FROM":
            base, _, name = re.sub(r"\s+AS\s+", " ", rest).partition(" ")
            stage = found[name] = Stage(name, base, found[base].user if base in found else "root")
            continue
        if word == "USER":
            stage.user = rest
        stage.instructions.append((word, rest))
    return found


def problems(text: str, ignore: str) -> list[str]:
    """Violations of this project's rules in a Dockerfile. hadolint checks the general rules."""
    found = list(_of_stages(stages(text)))
    for word, rest in instructions(text):
        found += _of_instruction(word, rest)
        if word == "COPY" and "--from=" not in rest:
            found += _of_sources(rest.split()[:-1], ignore)
    if "*" not in ignore.splitlines():
        found.append(".dockerignore does not begin with leaving everything out")
    return found


def _of_stages(found: dict[str, Stage]) -> Iterator[str]:
    for stage in found.values():
        if stage.base not in found and not EXACT.match(stage.base):
            yield f"base image {stage.base} is not pinned"
        if stage.has("ENTRYPOINT") and stage.user in {"root", "0", "0:0"}:
            yield f"stage {stage.name} runs as root"
        if stage.has("ENTRYPOINT") and not stage.has("HEALTHCHECK"):
            yield f"stage {stage.name} has no health check"


def _of_instruction(word: str, rest: str) -> Iterator[str]:
    if word == "ADD":
        yield "ADD fetches and unpacks: use COPY"
    if word in {"ENV", "ARG"} and re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", rest):
        yield f"a secret in {word} {rest}"
    for command in re.split(r"&&|;|\|", rest) if word == "RUN" else ():
        if "pip install" in command and "--require-hashes" not in command and "--no-deps" not in command:
            yield f"installs without hashes: {command.strip()}"


def _of_sources(sources: list[str], ignore: str) -> Iterator[str]:
    allowed = {line[1:].strip("/") for line in ignore.splitlines() if line.startswith("!")}
    for source in sources:
        if not (PROJECT / source).exists():
            yield f"{source} is not there"
        above = (Path(source), *Path(source).parents)
        if not any(path.match(pattern) for path in above for pattern in allowed):
            yield f"{source} is not in the build context"


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "hadolint", "--no-color", file], check=False, capture_output=True, text=True, timeout=60
    )


def test_hadolint_finds_nothing() -> None:
    result = hadolint(DOCKERFILE)
    assert (result.returncode, result.stdout) == (0, "")


def test_hadolint_finds_a_mistake(tmp_path: Path) -> None:
    seeded = tmp_path / "Dockerfile"
    seeded.write_text(DOCKERFILE.read_text().replace('ENTRYPOINT ["bankstream"]', "ENTRYPOINT bankstream"))
    assert "DL3025" in hadolint(seeded).stdout


def test_the_dockerfile_keeps_every_rule() -> None:
    assert problems(DOCKERFILE.read_text(), IGNORE.read_text()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("FROM python:3.11.15-slim-bookworm AS build", "FROM python:3.11 AS build", "python:3.11 is not pinned"),
        ("USER 10001:10001", "USER root", "stage worker runs as root"),
        ("--require-hashes -r requirements/runtime.txt", "-r requirements/runtime.txt", "without hashes"),
        ("COPY agents agents", "COPY agent agent", "agent is not there"),
        ("COPY agents agents", "COPY tests tests", "tests is not in the build context"),
        ("COPY agents agents", "ADD agents agents", "use COPY"),
        ("HOME=/tmp", "HOME=/tmp BANKSTREAM_POSTGRES_PASSWORD=x", "a secret in ENV"),
        ("HEALTHCHECK --interval=15s", "LABEL interval=15s", "stage worker has no health check"),
    ],
)
def test_a_mistake_is_found(right: str, wrong: str, expected: str) -> None:
    text = DOCKERFILE.read_text()
    assert right in text
    found = problems(text.replace(right, wrong), IGNORE.read_text())
    assert any(expected in problem for problem in found), found


def test_nothing_but_the_named_files_reaches_the_build() -> None:
    assert problems(DOCKERFILE.read_text(), IGNORE.read_text().replace("\n*\n", "\n"))
    allowed = [line[1:] for line in IGNORE.read_text().splitlines() if line.startswith("!")]
    assert not [name for name in allowed if name.startswith((".", "tests", "docs"))]


def test_every_package_of_the_wheel_is_copied_and_what_builds_it() -> None:
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {
        source for word, rest in instructions(DOCKERFILE.read_text()) if word == "COPY" for source in rest.split()[:-1]
    }
    assert {*packages["packages"], "hatch_build.py"} <= copied
    links = [path for name in packages["packages"] for path in (PROJECT / name).rglob("*") if path.is_symlink()]
    assert {str(link.resolve().relative_to(PROJECT)) for link in links} <= copied


def test_all_stages_have_the_same_python() -> None:
    found = stages(DOCKERFILE.read_text())
    assert len({stage.base for stage in found.values() if stage.base not in found}) == 1


def test_the_locks_agree_with_each_other() -> None:
    """Images install several locks into one environment, so a package must have the same version in all of them."""
    locked = {
        lock: dict(re.findall(r"^([\w.-]+)==(\S+)", (PROJECT / f"requirements/{lock}.txt").read_text(), re.MULTILINE))
        for lock in ("dev", "runtime", "warehouse", "dbt", "build")
    }
    for lock in ("runtime", "warehouse", "dbt", "build"):
        assert locked[lock]
        assert {name: locked["dev"].get(name) for name in locked[lock]} == locked[lock]
    assert set(locked["runtime"]) <= set(locked["warehouse"]) & set(locked["dbt"])


# --- python -m app.runtime.health -------------------------------------------------------------------------------------------------------


def test_a_worker_is_healthy_once_it_has_joined_its_group() -> None:
    name = next(iter(metrics.OPEN_PARTITIONS.describe())).name
    registry = CollectorRegistry()
    gauge = Gauge(name, "", ["member"], registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    settings = {"BANKSTREAM_METRICS_PORT": str(server.server_port)}
    try:
        assert health.problem("worker", settings) is not None
        gauge.labels("by-account")  # a stand-by: it has no partition
        assert health.problem("worker", settings) is None
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("port", ["", "0", "x", "70000"])
def test_a_process_without_a_port_is_not_healthy(port: str) -> None:
    found = health.problem("worker", {"BANKSTREAM_METRICS_PORT": port})
    assert found is not None
    assert "BANKSTREAM_METRICS_PORT" in found


def test_a_dead_process_is_not_healthy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound and not listening: no other process gets the port, and nothing responds
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BANKSTREAM_METRICS_PORT", str(taken.getsockname()[1]))
        assert health.main(["worker"]) == 1
    assert "no answer" in capsys.readouterr().err


def test_an_unknown_kind_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["broker"]) == 2
    assert "usage" in capsys.readouterr().err
