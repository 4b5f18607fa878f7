"""The native library, if it is there and of the sources beside it. What it has is declared in bank.h, and nowhere else."""

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
    """`ffi` makes and reads C values, `lib` has the functions and constants of bank.h."""

    ffi: Any
    lib: Any


@cache
def load() -> Library | None:
    """The library, once a process; None if it was not built or cannot be used: then Python does its work. Whether it is wanted
    (BANKSTREAM_NATIVE) is the caller's question.
    """
    return open_library(DIRECTORY / FILE)


def open_library(path: Path, sources: Path = DIRECTORY) -> Library | None:
    """The library in this file, if it is of these sources; else None. Logs which, and why."""
    if not path.exists():
        logger.info("the native library is not built, and Python does its work slower: make install builds it")
        return None
    ffi = FFI()
    ffi.cdef("const char *bank_sources(void);")
    ffi.cdef(declarations((sources / HEADER).read_text(encoding="utf-8")))
    try:
        lib: Any = ffi.dlopen(str(path))
    except OSError as error:
        logger.warning(
            "the native library is not used, and Python does its work slower: %s. "
            "python -m app.native.build builds it anew",
            error,
        )
        return None
    if ffi.string(lib.bank_sources()) != fingerprint(sources).encode():
        logger.warning(
            "the native library was built of other sources (%s) and is not used, Python does its work slower: "
            "make install builds it anew",
            path,
        )
        return None
    logger.info("the native library does what is common with transactions")
    return Library(ffi, lib)


def declarations(header: str) -> str:
    """What stands between the two marks of a header."""
    _, begin, rest = header.partition(BEGIN)
    declared, end, _ = rest.partition(END)
    assert begin, f"{HEADER} has no line {BEGIN}"
    assert end, f"{HEADER} has no line {END}"
    return declared
