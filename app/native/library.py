"""Loads the native library, if it exists and was built from the current sources. bank.h has its only declarations."""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from cffi import FFI

from app.native.build import DIRECTORY, FILE, fingerprint

HEADER: Final = "bank.h"
BEGIN: Final = "/* cffi: begin */"
END: Final = "/* cffi: end */"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Library:
    """`ffi` creates and reads C values; `lib` has the functions and constants of bank.h."""

    ffi: Any
    lib: Any


@cache
def load() -> Library | None:
    """Returns the library, loaded once for a process; None if it is not built or not usable: then Python does its work. The caller
    checks BANKSTREAM_NATIVE.
    """
    return open_library(DIRECTORY / FILE)


def open_library(path: Path, sources: Path = DIRECTORY) -> Library | None:
    """Returns the library in this file, or None if it is missing, unloadable or built from other sources. Logs the result."""
    if not path.exists():
        logger.info(
            "the native library is not built, so Python does its work more slowly. Run make install to build it"
        )
        return None
    ffi = FFI()
    ffi.cdef("const char *bank_sources(void);")
    ffi.cdef(declarations((sources / HEADER).read_text(encoding="utf-8")))
    try:
        lib: Any = ffi.dlopen(str(path))
    except OSError as error:
        logger.warning(
            "the native library is not used, so Python does its work more slowly: %s. "
            "Run python -m app.native.build to rebuild it",
            error,
        )
        return None
    if ffi.string(lib.bank_sources()) != fingerprint(sources).encode():
        logger.warning(
            "the native library was built from other sources (%s) and is not used, so Python does its work more slowly. "
            "Run make install to rebuild it",
            path,
        )
        return None
    logger.info("the native library is loaded and processes common transactions")
    return Library(ffi, lib)


def declarations(header: str) -> str:
    """Returns the text between the two marks of a header."""
    _, begin, rest = header.partition(BEGIN)
    declared, end, _ = rest.partition(END)
    assert begin, f"{HEADER} has no line {BEGIN}"
    assert end, f"{HEADER} has no line {END}"
    return declared
