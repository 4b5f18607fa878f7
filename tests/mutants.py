"""Mutation tests of the domain and the engine: changes the code in small ways and reports which changes no test notices. `make mutants`.

mutmut makes the mutants and runs the tests. This adds what mutmut leaves out by default: the methods of data classes, properties and
cached functions, which are most of the rules. docs/MUTANTS.md says how to read the result.
"""

import ast
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, groupby
from pathlib import Path
from typing import Any, Final
from zlib import crc32

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the project instead of this directory; mutmut replaces it by the directory of the mutants
# pytest is started for every mutant; pyproject.toml names the plugins that it needs.
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
os.chdir(ROOT)  # mutmut reads pyproject.toml in the current directory when it is imported

import libcst as cst  # noqa: E402 - after the working directory is set, as is mutmut
import mutmut as mutmut_state  # noqa: E402
import pytest  # noqa: E402
from hypothesis import Phase, settings  # noqa: E402
from libcst import matchers  # noqa: E402
from mutmut import __main__ as mutmut  # noqa: E402
from mutmut.configuration import Config  # noqa: E402
from mutmut.mutation import file_mutation, mutators  # noqa: E402
from mutmut.mutation.data import SourceFileMutationData  # noqa: E402
from mutmut.type_checking import TypeCheckingError, run_type_checker  # noqa: E402
from mutmut.utils.file_utils import change_cwd  # noqa: E402
from mutmut.utils.format_utils import get_mutant_name  # noqa: E402

EXAMPLES: Final = 60
"""Maximum number of examples of a property test. The examples are equal for all mutants."""
FIRST: Final = 25
"""Number of tests that run before all others: fast ones that call little more than the mutated function."""
SECONDS: Final = float(os.environ.get("BANKSTREAM_MUTANTS_SECONDS", "5"))
"""Time limit for the tests of a mutant, most relevant first. Without it, a function that everything calls would run every test."""

SHARE: Final = int(os.environ.get("BANKSTREAM_MUTANTS_SHARE", "1"))
"""Every n-th mutant is tried, always the same ones."""
NOT_TRIED: Final = 34
"""mutmut's code for a mutant that was skipped."""

OPEN_ROCKSDB: Final = frozenset(
    {"test_damaged_store.py", "test_restore_steps.py", "test_store.py", "test_unit_of_work.py"}
)
APART_S: Final = 120
APART_TEST_S: Final = 30
"""A test of those that takes longer ends itself: mutmut may have ended the process that waits for it."""
TOO_LONG: Final = 36
"""mutmut's code for a mutant whose tests do not end."""

STARTS_PROCESSES: Final = {
    "instance": "test_parts.py::test_two_workers",
    "exits": "test_stopping.py::",
    "forced_exit": "test_stopping.py::",
}
"""Tests that run a module of the engine in a separate process, by module."""

PROPERTIES: Final = frozenset({"property", "cached_property"})


def decorator(function: cst.FunctionDef) -> str:
    """The name of a function's only decorator, arguments or not; empty if it has none or several."""
    if len(function.decorators) != 1:
        return ""
    it = function.decorators[0].decorator
    name = it.func if isinstance(it, cst.Call) else it
    return name.value if isinstance(name, cst.Name) else ""


def mutate_decorated_code() -> None:
    """Makes mutmut enter decorated classes, properties and cached functions. The mutated copy caches nothing, because a result that was
    computed before a mutant was chosen would be returned for the mutant."""
    skips = file_mutation.MutationVisitor._skip_node_and_children
    arrange = file_mutation.function_trampoline_arrangement

    def skips_fewer(self: file_mutation.MutationVisitor, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef):
            return False
        if isinstance(node, cst.FunctionDef) and decorator(node) in {*PROPERTIES, "lru_cache"}:
            return False
        return isinstance(node, cst.Decorator) or skips(self, node)

    def arranged(function: cst.FunctionDef, mutants: Iterable[Any], class_name: str | None) -> tuple[Any, ...]:
        name = decorator(function)
        if name not in {*PROPERTIES, "lru_cache"}:
            return arrange(function, mutants, class_name)
        declared, (first, *others), assigned, names = arrange(function.with_changes(decorators=()), mutants, class_name)
        if name in PROPERTIES:
            as_property = cst.Decorator(cst.Name("property"))
            first = first.with_changes(decorators=(as_property, *cst.ensure_type(first, cst.FunctionDef).decorators))
        return declared, [first, *others], assigned, names

    file_mutation.MutationVisitor._skip_node_and_children = skips_fewer  # type: ignore[method-assign]
    file_mutation.function_trampoline_arrangement = arranged


def spare_repetitions() -> None:
    """Keeps one of several similar mutants: of the three changes of a text (letters around it, lower case, upper case) the first; of a
    positional argument the one that is None; of a keyword argument the one that is missing. The others fail on any call."""
    text, arguments = mutators.operator_string, mutators.operator_arg_removal

    def changed_once(node: cst.BaseString) -> Iterable[cst.BaseString]:
        return list(text(node))[:1]

    def without_each(node: cst.Call) -> Iterable[cst.Call]:
        for place, argument in enumerate(node.args):
            before, behind = node.args[:place], node.args[place + 1 :]
            if argument.keyword is not None:
                yield node.with_changes(args=(*before, *behind))
            elif not argument.star and not matchers.matches(argument.value, matchers.Name("None")):
                yield node.with_changes(args=(*before, argument.with_changes(value=cst.Name("None")), *behind))

    instead: dict[Any, Any] = {text: changed_once, arguments: without_each}
    file_mutation.mutation_operators = [  # type: ignore[attr-defined]
        (kind, instead.get(operator, operator)) for kind, operator in mutators.mutation_operators
    ]


def name_tests_as_mutmut_does() -> None:
    """Adds an attribute of tests that mutmut 3.7 reads and pytest 9 no longer has."""
    if not hasattr(pytest.Item, "_nodeid"):
        pytest.Item._nodeid = property(lambda item: item.nodeid)  # type: ignore[attr-defined]


def run_apart(tests: Sequence[str]) -> int:
    """Runs tests in a new process. mutmut forks a process for each mutant, without RocksDB's threads, and RocksDB would wait for them."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--noconftest",
        "-p",
        "_hypothesis_pytestplugin",
        "--hypothesis-seed=0",
        f"--timeout={APART_TEST_S}",
    ]
    try:
        return subprocess.run(
            [*command, *Config.get().pytest_add_cli_args, *tests],
            cwd=ROOT / "mutants", timeout=APART_S, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        return TOO_LONG


def try_likely_tests_first() -> None:
    """Runs the most relevant tests in a separate pytest call first. pytest collects all given tests before it runs one, and the first
    tests kill most mutants."""
    run, spread = mutmut.PytestRunner.run_tests, Counter[str]()

    def run_likely_ones_first(self: mutmut.PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        if not spread:  # in mutmut's main process, before the first mutant
            spread.update(chain.from_iterable(mutmut_state.tests_by_mangled_function_name.values()))
        if mutant_name is None:
            return run(self, mutant_name=None, tests=tests)
        ordered = sorted(tests, key=lambda test: (spread[test] * mutmut_state.duration_by_test[test], test))
        spent = accumulate((mutmut_state.duration_by_test[test] for test in ordered[1:]), initial=0.0)
        ordered = [test for test, seconds in zip(ordered, spent, strict=False) if seconds <= SECONDS]
        apart = [test for test in ordered if test.partition("::")[0].rpartition("/")[2] in OPEN_ROCKSDB]
        here = [test for test in ordered if test not in apart]
        for some in (here[:FIRST], here[FIRST:]):
            if some and (code := run(self, mutant_name=mutant_name, tests=some)):
                return code
        return run_apart(apart) if apart else 0

    mutmut.PytestRunner.run_tests = run_likely_ones_first  # type: ignore[method-assign]


def choose_what_to_try() -> None:
    """Chooses the share of the mutants that are tried; those that mypy refuses are always included. Adds tests that start processes,
    because mutmut sees only the functions that a test calls in its own process."""
    collect = mutmut.collect_or_load_stats

    def collected(*args: Any, **named: Any) -> None:
        collect(*args, **named)
        for path in mutmut.walk_mutatable_files():
            data = SourceFileMutationData(path=path)
            data.load()
            wanted = STARTS_PROCESSES.get(path.stem)
            tests = {test for test in mutmut_state.duration_by_test if wanted is not None and wanted in test}
            refused = named["mutants_caught_by_type_checker"]
            for mutant, code in data.exit_code_by_key.items():
                tried = crc32(mutant.rpartition(".")[2].encode()) % SHARE == 0 or mutant in refused
                if code in (None, NOT_TRIED):
                    data.exit_code_by_key[mutant] = None if tried else NOT_TRIED
            data.save()
            for name in {mutmut.mangled_name_from_mutant_name(mutant) for mutant in data.exit_code_by_key}:
                mutmut_state.tests_by_mangled_function_name[name] |= tests

    mutmut.collect_or_load_stats = collected


def try_fewer_examples() -> None:
    """Limits the examples of each property test, and skips the search for the smallest failing example."""
    settings.register_profile(
        "mutants",
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate),
    )
    settings.load_profile("mutants")
    make = settings.__init__

    def with_fewer(self: settings, *args: Any, **given: Any) -> None:
        if isinstance(given.get("max_examples"), int):
            given["max_examples"] = min(given["max_examples"], EXAMPLES)
        make(self, *args, **given)

    settings.__init__ = with_fewer  # type: ignore[method-assign]


def ask_the_type_checker() -> None:
    """Finds the mutants that mypy refuses. mutmut itself counts every error of mypy, but some are caused by the layout of the copies."""

    def refused() -> dict[str, Any]:
        with change_cwd(Path("mutants")):
            errors = run_type_checker([sys.executable, "-m", *Config.get().type_check_command])
            found: dict[str, Any] = {}
            for path, of_file in groupby(sorted(errors, key=lambda it: str(it.file_path)), lambda it: it.file_path):
                found |= _by_mutant(path.relative_to(Path.cwd()), list(of_file))
        return found

    mutmut.filter_mutants_with_type_checker = refused  # type: ignore[attr-defined]


def _by_mutant(path: Path, errors: list[TypeCheckingError]) -> dict[str, Any]:
    said: dict[str, list[TypeCheckingError]] = defaultdict(list)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name:
            end = node.end_lineno or node.lineno
            said[node.name] += [error for error in errors if node.lineno <= error.line_number <= end]
    found = {}
    for name, complaints in said.items():
        usual = {it.error_description for it in said[f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"]}
        own = [it for it in complaints if it.error_description not in usual]
        if own and not name.endswith("_orig"):
            key = get_mutant_name(path, name)
            found[key] = file_mutation.FailedTypeCheckMutant(
                file_mutation.MutatedMethodLocation(path, name, 0, 0), key, own[0]
            )
    return found


COLUMNS: Final = {
    "mutants": frozenset(mutmut.status_by_exit_code.values()),
    "types": frozenset({"caught by type check"}),
    "tests": frozenset({"killed", "segfault"}),
    "timeout": frozenset({"timeout"}),
    "survived": frozenset({"survived", "suspicious"}),
    "no test": frozenset({"no tests"}),
    "not tried": frozenset({"skipped", "not checked"}),
}
"""Columns of the table, and the verdicts of mutmut that each counts."""


def table() -> str:
    """The result by module, as Markdown."""
    lines = [f"| module | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    total: Counter[str] = Counter()
    for path in sorted(mutmut.walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        count = Counter(mutmut.status_by_exit_code[code] for code in data.exit_code_by_key.values())
        if count:
            lines.append(_row(f"`{path}`", count))
            total += count
    return "\n".join((*lines, _row("all", total)))


def _row(name: str, count: Counter[str]) -> str:
    cells = (sum(count[it] for it in verdicts) for verdicts in COLUMNS.values())
    return f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} |"


def main(names: Sequence[str]) -> None:
    """Runs all mutants without a verdict, or the named ones, and prints the result."""
    try_fewer_examples()
    mutate_decorated_code()
    spare_repetitions()
    name_tests_as_mutmut_does()
    try_likely_tests_first()
    ask_the_type_checker()
    choose_what_to_try()
    mutmut._run(tuple(names), max_children=int(os.environ.get("BANKSTREAM_MUTANTS_AT_ONCE", "1")))
    print(table())  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
