"""Tests that the native library is built from its sources, contains their hash, and is used only with them."""

import pkgutil
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from app.cli.main import main
from app.config.settings import WorkerSettings
from app.errors import one_line
from app.native import build, library
from app.native.build import FILE, BuildError
from app.native.library import Library, NativeLibraryError

OF_TESTS: Final = """
#include <limits.h>
#include <stdint.h>
__attribute__((visibility("default"))) int32_t test_next(int32_t number) { return number + 1; }
int32_t test_hidden(void) { return INT_MAX; }
"""
"""Added to a copy of the sources. In C, adding one to the largest integer is undefined behaviour."""
WITH_STAT: Final = """
#define _GNU_SOURCE
#include <sys/stat.h>
__attribute__((visibility("default"))) int test_stat(const char *path) { struct stat found; return stat(path, &found); }
"""
"""Code that needs glibc 2.33 if it is compiled for 2.33 or newer."""
DECLARED: Final = "int32_t test_next(int32_t number);\nint32_t test_hidden(void);\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the C sources."""
    directory = tmp_path / "sources"
    directory.mkdir()
    for path in (*build.DIRECTORY.glob("*.c"), *build.DIRECTORY.glob("*.h")):
        shutil.copy(path, directory)
    return directory


@pytest.fixture
def fresh() -> Iterator[None]:
    """Clears the cache of `load`, as in a new process."""
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def extended(sources: Path) -> Path:
    """The copy with one more exported function, and one static function."""
    (sources / "of_tests.c").write_text(OF_TESTS)
    header = sources / library.HEADER
    header.write_text(header.read_text().replace(library.END, DECLARED + library.END))
    return sources


def opened(path: Path, sources: Path) -> Library:
    return library.open_library(path, sources)


def test_a_built_library_is_used_and_has_what_its_header_exports(tmp_path: Path, sources: Path) -> None:
    found = opened(build.build(tmp_path / "new" / "out", sources=extended(sources)), sources)
    assert found.lib.test_next(41) == 42
    assert found.ffi.string(found.lib.bank_sources()) == build.fingerprint(sources).encode()
    assert not hasattr(found.lib, "test_hidden")


def test_every_function_of_the_header_is_in_the_library(tmp_path: Path, sources: Path) -> None:
    found = opened(build.build(tmp_path, sources=sources), sources)
    declared = re.findall(
        r"^\w[\w *]*?(bank_\w+)\(", library.declarations((sources / library.HEADER).read_text()), re.MULTILINE
    )
    assert declared
    assert [name for name in declared if not hasattr(found.lib, name)] == []


def test_nothing_else_is_left_behind(tmp_path: Path, sources: Path) -> None:
    before = sorted(sources.iterdir())
    build.build(tmp_path / "out", sources=sources)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE]
    assert sorted(sources.iterdir()) == before


def test_a_library_of_other_sources_is_not_used(tmp_path: Path, sources: Path) -> None:
    built = build.build(tmp_path, sources=sources)
    assert build.is_current(built, sources)
    header = sources / library.HEADER
    header.write_text(header.read_text() + "\n")
    with pytest.raises(NativeLibraryError, match=r"was built from other sources\. In a checkout, run make install"):
        library.open_library(built, sources)
    assert not build.is_current(built, sources)


def test_a_source_of_another_name_is_noticed(tmp_path: Path, sources: Path) -> None:
    built = build.build(tmp_path, sources=sources)
    (sources / library.HEADER).rename(sources / "bank_.h")
    assert not build.is_current(built, sources)


def test_a_process_that_has_the_library_keeps_what_it_has(tmp_path: Path, sources: Path) -> None:
    with build.build(tmp_path, sources=sources).open("rb") as held:
        before = held.read()
        after = build.build(tmp_path, sources=extended(sources)).read_bytes()
        held.seek(0)
        assert held.read() == before != after


def test_a_deleted_source_is_noticed(tmp_path: Path, sources: Path) -> None:
    (sources / "gone.h").touch()
    built = build.build(tmp_path, sources=sources)
    (sources / "gone.h").unlink()
    assert not build.is_current(built, sources)


def test_other_compiler_options_give_another_fingerprint(monkeypatch: pytest.MonkeyPatch, sources: Path) -> None:
    before = build.fingerprint(sources)
    monkeypatch.setattr(build, "OPTIONS", (*build.OPTIONS, "-O3"))
    assert build.fingerprint(sources) != before


def test_a_file_that_is_no_library_is_not_used(tmp_path: Path, sources: Path) -> None:
    damaged = tmp_path / FILE
    damaged.write_bytes(build.build(tmp_path / "out", sources=sources).read_bytes()[:100])
    with pytest.raises(NativeLibraryError, match=re.escape(f"{damaged} cannot be loaded (")):
        library.open_library(damaged, sources)


@pytest.mark.usefixtures("fresh")
def test_without_a_library_nothing_starts_and_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "DIRECTORY", tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)  # as the command line does, until the end of this test
    (tmp_path / "empty.ndjson").touch()
    monkeypatch.setattr(
        sys, "argv", ["bankstream", "replay", str(tmp_path / "empty.ndjson"), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith(
        f"bankstream: the native library {tmp_path / FILE} is not there. In a checkout, run make install"
    )
    assert (
        f"a wheel of bankstream for this platform ({sysconfig.get_platform()}). It can be built on Linux (x86_64"
        in line
    )


@pytest.mark.parametrize("value", ["true", "false", "x"])
def test_the_variable_that_once_chose_python_is_ignored(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANKSTREAM_NATIVE", value)
    assert not hasattr(WorkerSettings(), "native")


def test_the_library_is_not_importable_as_a_module(tmp_path: Path, sources: Path) -> None:
    build.build(tmp_path, sources=sources)
    assert list(pkgutil.iter_modules([str(tmp_path)])) == []


@pytest.mark.usefixtures("fresh")
def test_this_installation_has_its_library() -> None:
    assert library.load() is library.load()


def test_the_compilers_errors_are_reported_and_the_existing_library_stays(tmp_path: Path, sources: Path) -> None:
    built = build.build(tmp_path / "out", sources=sources)
    before = built.read_bytes()
    (sources / "broken.c").write_text('int number = "text";\n')
    with pytest.raises(BuildError, match=r"do not compile \(exit code 1\)") as found:
        build.build(tmp_path / "out", sources=sources)
    assert "broken.c:1:5: error: incompatible pointer to integer conversion" in one_line(found.value)
    assert built.read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE]


def test_a_warning_is_an_error(tmp_path: Path, sources: Path) -> None:
    (sources / "careless.c").write_text("int half(int number, int unused) { return number / 2; }\n")
    with pytest.raises(BuildError, match="-Wunused-parameter"):
        build.build(tmp_path / "out", sources=sources)


def test_a_directory_without_sources_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="has no C sources"):
        build.build(tmp_path / "out", sources=tmp_path)


def test_an_environment_without_a_compiler_is_reported(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(BuildError, match="needs the package ziglang"):
        build.build(tmp_path / "out", sources=sources)


def test_an_unwritable_directory_is_reported(tmp_path: Path, sources: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"cannot be written: .*--into"):
        build.build(tmp_path / "file", sources=sources)


@pytest.mark.skipif(not build.glibc_target(), reason="not on Linux with glibc")
def test_no_newer_glibc_is_needed_than_the_wheel_says(tmp_path: Path, sources: Path) -> None:
    (sources / "newer.c").write_text(WITH_STAT)
    content = build.build(tmp_path, sources=sources).read_bytes()
    needed = {tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_([\d.]+)", content)}
    assert needed
    assert max(needed) <= build.GLIBC


@pytest.mark.parametrize("sanitize", [True, False])
def test_undefined_behaviour_ends_a_process_with_the_library_for_tests(
    tmp_path: Path, sources: Path, *, sanitize: bool
) -> None:
    built = build.build(tmp_path / "out", sources=extended(sources), sanitize=sanitize)
    program = (
        "import sys; from pathlib import Path; from app.native.library import open_library\n"
        "found = open_library(Path(sys.argv[1]), Path(sys.argv[2])); assert found.lib.test_next(41) == 42\n"
        "found.lib.test_next(2**31 - 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, built, sources], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode < 0) is sanitize, done.stderr
    assert done.stderr == ""


def test_the_command_builds_once_and_again_when_it_has_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--into", str(tmp_path), "--if-changed"]
    assert build.main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path / FILE}\n"
    assert build.main(arguments) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / FILE).write_bytes(b"of other sources")
    assert build.main(arguments) == 0
    assert build.is_current(tmp_path / FILE)


def test_the_command_says_why_it_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert build.main(["--into", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith(str(tmp_path / "file" / FILE))


@pytest.mark.parametrize("mark", [library.BEGIN, library.END])
def test_a_header_without_its_marks_is_found(mark: str) -> None:
    header = (build.DIRECTORY / library.HEADER).read_text()
    assert library.declarations(header)
    with pytest.raises(AssertionError, match=re.escape(mark)):
        library.declarations(header.replace(mark, ""))
