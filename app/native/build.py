"""Compiles the native library: `python -m app.native.build [--into DIR] [--if-changed] [--sanitize]`. Needs the package `ziglang`.

Zig brings the C library's headers and stubs along, so the machine needs no compiler, and what is built for glibc runs on any later one.
"""

import argparse
import hashlib
import importlib.util
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from app.errors import BankstreamError

DIRECTORY: Final = Path(__file__).parent
FILE: Final = "_bank.native.so"
"""The library's name, the same on every platform. With two dots no search for Python modules takes it for one."""
GLIBC: Final = (2, 17)
"""The oldest that it runs with: what manylinux2014 promises, and older than any that Python 3.11 is distributed for."""
MACHINES: Final = ("x86_64", "aarch64")
"""Where Zig and wheels call a machine what Linux calls it."""
OPTIONS: Final = (
    "-std=c11",
    "-O2",
    "-mcpu=baseline",  # of the platform: it may run on another machine than this one
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-s",  # no symbols but the exported ones, no debug information
)
UNCHECKED: Final = ("-fno-sanitize=undefined",)
SANITIZED: Final = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
"""Undefined behaviour ends the process, with SIGILL or SIGTRAP as the processor has it."""
TIMEOUT_S: Final = 600


class BuildError(BankstreamError):
    """The library was not built; one that was there before is as it was."""


def fingerprint(directory: Path = DIRECTORY) -> str:
    """SHA-256 of the C sources and headers of a directory, by their names and bytes, and of the options they are compiled with."""
    found = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in sorted([*directory.glob("*.c"), *directory.glob("*.h")]):
        content = path.read_bytes()
        found.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def glibc_target() -> str | None:
    """What Zig is to compile for on Linux with glibc; None elsewhere: for this very machine's system."""
    machine = platform.machine()
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or machine not in MACHINES:
        return None
    return f"{machine}-linux-gnu.{'.'.join(map(str, GLIBC))}"


def build(into: Path = DIRECTORY, *, sources: Path = DIRECTORY, sanitize: bool = False) -> Path:
    """Compile every C file of `sources` to one library in `into`, which is complete when it appears. Raises BuildError."""
    files = sorted(sources.glob("*.c"))
    if not files:
        raise BuildError(f"{sources} has no C sources. Restore them from the repository.")
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError(
            f"the native library needs the package ziglang to be compiled, and {sys.prefix} does not have it. "
            "Say make install, or install the version that pyproject.toml names."
        )
    target = glibc_target()
    library = into / FILE
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=into) as directory:
            unfinished = Path(directory, FILE)
            compile_to(
                unfinished,
                files,
                *OPTIONS,
                *(SANITIZED if sanitize else UNCHECKED),
                f'-DBANK_SOURCES="{fingerprint(sources)}"',
                *(("-target", target) if target else ()),
            )
            unfinished.replace(library)
    except OSError as error:
        raise BuildError(
            f"{library} cannot be written: {error.strerror}. Make the directory writable, or name one with --into."
        ) from error
    return library


def compile_to(output: Path, files: list[Path], *options: str) -> None:
    """One run of the compiler. Raises BuildError with what it says."""
    command = [sys.executable, "-m", "ziglang", "cc", *options, *map(str, files), "-o", str(output)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise BuildError(f"the compiler was not done with {files[0].parent} after {TIMEOUT_S} s. Try again.") from None
    if done.returncode:
        raise BuildError(
            f"the C sources in {files[0].parent} do not compile (exit code {done.returncode}). Correct what the compiler says:\n"
            f"{(done.stderr or done.stdout).strip()}"
        )


def is_current(library: Path, sources: Path = DIRECTORY) -> bool:
    """Whether the library is there and of these sources; a sanitized one counts like any other."""
    return library.exists() and fingerprint(sources).encode() in library.read_bytes()


def main(arguments: list[str] | None = None) -> int:
    """The command. 0: the library is there; 1: it could not be built, and standard error says why."""
    parser = argparse.ArgumentParser(prog="python -m app.native.build", description="Compile the native library.")
    parser.add_argument(
        "--into", type=Path, default=DIRECTORY, metavar="DIR", help="where to; default: beside its sources"
    )
    parser.add_argument("--if-changed", action="store_true", help="not if the one there is of the same sources")
    parser.add_argument("--sanitize", action="store_true", help="undefined behaviour ends the process: for tests")
    chosen = parser.parse_args(arguments)
    if chosen.if_changed and is_current(chosen.into / FILE):
        return 0
    try:
        sys.stdout.write(f"{build(chosen.into, sanitize=chosen.sanitize)}\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
