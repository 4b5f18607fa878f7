"""Tests CI's workflows: they are valid, pinned by commit, have least privileges, and call existing make targets."""

import copy
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.machine.tools import BIN, schema_accepts
from tests.support.paths import PROJECT

FILES: Final = sorted((PROJECT / ".github/workflows").glob("*.y*ml"))
CI: Final = PROJECT / ".github/workflows/ci.yml"

Workflow = dict[str, Any]
PINNED: Final = re.compile(r"uses:\s*[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+\s*$")


def load(file: Path) -> Workflow:
    content: Workflow = yaml.safe_load(file.read_text())
    return content


def problems(workflow: Workflow) -> list[str]:
    """Violations of this project's rules. zizmor and actionlint check the general rules."""
    found: list[str] = []
    if workflow.get("permissions") != {}:
        found.append("the workflow has rights that its jobs should ask for")
    if "concurrency" not in workflow:
        found.append("runs of one branch are not limited")
    for name, job in workflow["jobs"].items():
        found += [f"{name}: {problem}" for problem in _of_job(job)]
        found += [f"{name}: {problem}" for step in job["steps"] for problem in _of_step(step)]
    if "all" in workflow["jobs"]:
        missing = set(workflow["jobs"]) - {"all", *workflow["jobs"]["all"]["needs"]}
        found += [f"all: does not wait for {name}" for name in sorted(missing)]
    return found


def _of_job(job: Workflow) -> Iterator[str]:
    if "timeout-minutes" not in job:
        yield "may run for six hours"
    if "permissions" not in job or any(right == "write" for right in job["permissions"].values()):
        yield "does not say that it only reads"
    if "latest" in str(job["runs-on"]):
        yield "runs on whatever is latest"


def _of_step(step: Workflow) -> Iterator[str]:
    if "checkout" in step.get("uses", "") and step.get("with", {}).get("persist-credentials") is not False:
        yield "leaves its token in the checkout"
    script = step.get("run", "")
    if "${{" in script:
        yield "an expression in a script; pass it by env"
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for target in set(re.findall(r"\bmake ([a-z-]+)", script)) - targets:
        yield f"make has no target {target}"


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        BIN / "zizmor",
        "--offline",
        "--no-progress",
        "--color=never",
        "--persona=auditor",
        path,
    ]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def seeded(tmp_path: Path, right: str, wrong: str) -> Path:
    text = CI.read_text()
    assert right in text
    file = tmp_path / ".github/workflows/ci.yml"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace(right, wrong))
    return file


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_is_valid(file: Path) -> None:
    assert schema_accepts("vendor.github-workflows", file)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("runs-on: ubuntu-24.04\n", "runs_on: ubuntu-24.04\n"),
        ("fail-fast: false", "fail-fast: [false]"),
        ("contents: read", "content: read"),
    ],
)
def test_the_schema_finds_a_mistake(tmp_path: Path, right: str, wrong: str) -> None:
    assert not schema_accepts("vendor.github-workflows", seeded(tmp_path, right, wrong))


def test_zizmor_finds_nothing() -> None:
    result = zizmor(PROJECT / ".github/workflows")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("persist-credentials: false", "fetch-depth: 0", "artipacked"),
        ("permissions: {}\n\nconc", "permissions: write-all\n\nconc", "excessive-permissions"),
        ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd", "@v6", "unpinned-uses"),
        ("run: make dbt", "run: make dbt && echo ${{ github.head_ref }}", "template-injection"),
    ],
)
def test_zizmor_finds_a_mistake(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    assert f"[{rule}]" in zizmor(seeded(tmp_path, right, wrong)).stdout


@pytest.mark.skipif(not shutil.which("actionlint"), reason="actionlint is a Go program; CI's job `workflows` runs it")
def test_actionlint_finds_nothing() -> None:
    result = subprocess.run(
        ["actionlint", *FILES], check=False, capture_output=True, text=True, cwd=PROJECT, timeout=120
    )
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(file: Path) -> None:
    uses = [line for line in file.read_text().splitlines() if re.search(r"^\s*(- )?uses:", line)]
    assert [line for line in uses if not PINNED.search(line)] == []


@pytest.mark.parametrize("line", ["uses: a/b@v1", "uses: a/b@" + "0" * 40, "uses: a/b@0a1b # v1.0.0", "uses: a/b@main"])
def test_an_action_that_is_not_pinned_is_found(line: str) -> None:
    assert not PINNED.search(line)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_workflow_keeps_every_rule(file: Path) -> None:
    assert problems(load(file)) == []


SEEDED: Final[list[tuple[str, Callable[[Workflow], object], str]]] = [
    ("no timeout", lambda w: w["jobs"]["docker"].pop("timeout-minutes"), "docker: may run for six hours"),
    ("a right to write", lambda w: w["jobs"]["docker"].update(permissions={"contents": "write"}), "only reads"),
    ("default rights", lambda w: w.pop("permissions"), "should ask for"),
    ("a floating runner", lambda w: w["jobs"]["docker"].update({"runs-on": "ubuntu-latest"}), "whatever is latest"),
    ("a token left", lambda w: w["jobs"]["docker"]["steps"][0].pop("with"), "leaves its token"),
    ("injection", lambda w: w["jobs"]["docker"]["steps"][1].update(run="echo ${{ github.ref }}"), "pass it by env"),
    ("no such target", lambda w: w["jobs"]["docker"]["steps"][1].update(run="make compost"), "no target compost"),
    ("a job that nobody awaits", lambda w: w["jobs"]["all"]["needs"].remove("package"), "does not wait for package"),
    ("no concurrency", lambda w: w.pop("concurrency"), "not limited"),
]


@pytest.mark.parametrize(("change", "expected"), [pytest.param(c, e, id=i) for i, c, e in SEEDED])
def test_a_mistake_is_found(change: Callable[[Workflow], object], expected: str) -> None:
    mistaken = copy.deepcopy(load(CI))
    change(mistaken)
    assert any(expected in problem for problem in problems(mistaken)), problems(mistaken)


def test_tests_run_on_both_platforms_and_both_pythons() -> None:
    matrix = load(CI)["jobs"]["checks"]["strategy"]["matrix"]
    assert matrix == {"os": ["ubuntu-24.04", "ubuntu-24.04-arm"], "python": ["3.11", "3.13"]}


def test_snowflakes_secrets_reach_only_steps_behind_the_guard() -> None:
    steps = load(CI)["jobs"]["dbt-snowflake"]["steps"]
    guard = next(index for index, step in enumerate(steps) if step.get("id") == "account")
    assert guard == 0
    for step in steps[1:]:
        assert step["if"] == "steps.account.outputs.given == 'true'"
    others = {name: job for name, job in load(CI)["jobs"].items() if name != "dbt-snowflake"}
    assert "secrets." not in str(others)
