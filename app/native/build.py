"""Compiles the native library: `python -m app.native.build [--into DIR] [--if-changed] [--sanitize]`. Needs the package `ziglang`.

Zig includes the C library's headers and stubs, so the machine needs no compiler. A library built for a glibc runs on any later glibc.
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
"""The library's name, the same on every platform. Because of the two dots, Python does not import it as a module."""
GLIBC: Final = (2, 17)
"""The oldest glibc that the library runs with: that of manylinux2014, and older than any that Python 3.11 is distributed for."""
MACHINES: Final = ("x86_64", "aarch64")
"""The machines that have the same name in Zig, in wheels and in Linux."""
OPTIONS: Final = (
    "-std=c11",
    "-O2",
    "-mcpu=baseline",  # of the platform: the library may run on another machine
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-s",  # only exported symbols, no debug information
)
UNCHECKED: Final = ("-fno-sanitize=undefined",)
SANITIZED: Final = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
"""Undefined behaviour ends the process with SIGILL or SIGTRAP, depending on the processor."""
TIMEOUT_S: Final = 600


class BuildError(BankstreamError):
    """The library was not built; an existing library is unchanged."""


def fingerprint(directory: Path = DIRECTORY) -> str:
    """Returns the SHA-256 of the compiler options and of the names and bytes of the C sources and headers in a directory."""
    found = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in sorted([*directory.glob("*.c"), *directory.glob("*.h")]):
        content = path.read_bytes()
        found.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def glibc_target() -> str | None:
    """Returns Zig's target on Linux with glibc; None elsewhere: then Zig compiles for the system of this machine."""
    machine = platform.machine()
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or machine not in MACHINES:
        return None
    return f"{machine}-linux-gnu.{'.'.join(map(str, GLIBC))}"


def build(into: Path = DIRECTORY, *, sources: Path = DIRECTORY, sanitize: bool = False) -> Path:
    """Compile every C file of `sources` to one library in `into`, and move it into place once it is complete. Raises BuildError."""
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
    """Run the compiler once. Raises BuildError with the compiler's output."""
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
    """Returns whether the library exists and was built from these sources, sanitized or not."""
    return library.exists() and fingerprint(sources).encode() in library.read_bytes()


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 if the library exists; 1 if the build failed, with the reason on standard error."""
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
