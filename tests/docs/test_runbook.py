"""Tests that names, texts and exit codes in the runbook and the page of metrics equal those of the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Metric

from agents import metrics as of_agents
from app.engine import exits
from app.engine import metrics as of_engine
from app.engine.exit_history import KILLED
from app.operations.capture import metrics as of_capture
from app.web import metrics as of_api
from sinks import metrics as of_sinks
from tests.support.paths import PROJECT

RUNBOOK = (PROJECT / "docs" / "RUNBOOK.md").read_text(encoding="utf-8")
METRICS = (PROJECT / "docs" / "METRICS.md").read_text(encoding="utf-8")
WORKER_CODE = (
    "app/engine",
    "app/web",
    "app/operations/capture",
    "app/native",
    "app/runtime/worker.py",
    "sinks",
    "agents",
    "tables",
)
FAULTS = range(1, 22)
"""The numbers of the fault matrix."""
GAP = "…"
"""Stands for the variable part of a text: an offset, a name, a reason."""


@cache
def texts() -> tuple[str, ...]:
    """Every string in the code of workers, with GAP in place of inserted values."""
    return tuple(text for path in sources() for text in _strings(ast.parse(path.read_text(encoding="utf-8"))))


def sources() -> list[Path]:
    """The source files of workers."""
    return sorted(
        path
        for name in WORKER_CODE
        for path in ((PROJECT / name).rglob("*.py") if (PROJECT / name).is_dir() else [PROJECT / name])
    )


def _strings(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub(r"%[.\d]*[a-z]", GAP, node.value))
        elif isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values))
    return found


def quoted(page: str) -> list[str]:
    """The log texts that a page quotes: lines that begin with `>`."""
    return [line.removeprefix("> ").strip("` ") for line in page.splitlines() if line.startswith("> ")]


def loud() -> list[str]:
    """The formats of all log messages of workers at level warning and above."""
    calls = [
        node
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("warning", "error", "critical")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
    ]
    return [text for call in calls for text in _strings(call.args[0])]


def declared() -> dict[str, Metric]:
    """The project's metrics, by their names in Prometheus."""
    assert all((of_agents, of_api, of_capture, of_engine, of_sinks)), "each declares its metrics when it is imported"
    return {
        metric.name + ("_total" if metric.type == "counter" else ""): metric
        for metric in REGISTRY.collect()
        if metric.name.startswith("bankstream_")
    }


def named(page: str) -> set[str]:
    """The metrics that a page names."""
    return set(re.findall(r"\bbankstream_[a-z0-9_]+[a-z0-9]", page))


@pytest.mark.parametrize("text", quoted(RUNBOOK))
def test_every_log_text_in_the_runbook_is_in_the_code(text: str) -> None:
    assert any(text in found for found in texts()), text


def test_every_warning_of_a_worker_is_in_the_runbook() -> None:
    lines = quoted(RUNBOOK)
    telling = [line for line in lines if len(line.replace(GAP, "")) > 15]  # shorter texts occur by chance
    assert [text for text in loud() if text not in lines and not any(line in text for line in telling)] == []
    assert len(loud()) > 10


@pytest.mark.parametrize("page", [RUNBOOK, METRICS], ids=["runbook", "metrics"])
def test_every_metric_that_is_named_exists(page: str) -> None:
    ends = ("_bucket", "_sum", "_count")
    histograms = {f"{name}{end}" for name, metric in declared().items() if metric.type == "histogram" for end in ends}
    assert named(page) - declared().keys() - histograms == set()


def test_the_page_of_metrics_has_every_metric_with_its_description() -> None:
    rows = dict(re.findall(r"^\| `(bankstream_\w+)` \| \w+ \|[^|]*\| (.*) \|$", METRICS, re.MULTILINE))
    assert rows == {name: metric.documentation for name, metric in declared().items()}


@pytest.mark.parametrize(
    "code", ["0", "1", *map(str, (exits.DEFECT, exits.FENCED, exits.RETRY, exits.CONTINUITY)), KILLED]
)
def test_every_exit_code_of_a_worker_is_in_the_runbook(code: str) -> None:
    assert re.search(rf"^\| `{code}` \|", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("number", FAULTS)
def test_every_fault_of_the_matrix_has_its_three_answers(number: int) -> None:
    section = re.search(rf"^### {number} .*?(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section
    for answer in ("**One sees**", "**By itself**", "**A person**"):
        assert answer in section[0], f"{number}: {answer}"
