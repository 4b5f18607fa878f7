"""Loads the native library, which must have been built from the current sources. bank.h has its only declarations."""

import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from cffi import FFI

from app.errors import SettingsError, one_line
from app.native.build import DIRECTORY, FILE, fingerprint

HEADER: Final = "bank.h"
BEGIN: Final = "/* cffi: begin */"
END: Final = "/* cffi: end */"

PLATFORMS: Final = "Linux (x86_64, aarch64, ppc64le or riscv64) and macOS 13 or newer"
"""The 64-bit, little-endian ones of those that the package ziglang has wheels for, without Windows, which other packages rule out."""


@dataclass(frozen=True, slots=True)
class Library:
    """`ffi` creates and reads C values; `lib` has the functions and constants of bank.h."""

    ffi: Any
    lib: Any


class NativeLibraryError(SettingsError):
    """The native library is missing, or it is not the one of these sources. Raised at start, before anything is read or written."""


@cache
def load() -> Library:
    """Returns the library, loaded once for a process. Raises NativeLibraryError."""
    return open_library(DIRECTORY / FILE)


def open_library(path: Path, sources: Path = DIRECTORY) -> Library:
    """Returns the library in this file. Raises NativeLibraryError if it is missing, unloadable or built from other sources."""
    if not path.exists():
        raise _error(path, "is not there")
    ffi = FFI()
    ffi.cdef("const char *bank_sources(void);")
    ffi.cdef(declarations((sources / HEADER).read_text(encoding="utf-8")))
    try:
        lib: Any = ffi.dlopen(str(path))
    except OSError as error:
        raise _error(path, f"cannot be loaded ({one_line(error)})") from None
    if ffi.string(lib.bank_sources()) != fingerprint(sources).encode():
        raise _error(path, "was built from other sources")
    return Library(ffi, lib)


def _error(path: Path, problem: str) -> NativeLibraryError:
    return NativeLibraryError(
        f"the native library {path} {problem}. In a checkout, run make install, which builds it; elsewhere, install a wheel of bankstream "
        f"for this platform ({sysconfig.get_platform()}). It can be built on {PLATFORMS}."
    )


def declarations(header: str) -> str:
    """Returns the text between the two marks of a header."""
    _, begin, rest = header.partition(BEGIN)
    declared, end, _ = rest.partition(END)
    assert begin, f"{HEADER} has no line {BEGIN}"
    assert end, f"{HEADER} has no line {END}"
    return declared
