"""`python -m app.operations.dbt.process COMMON… -- BUILD…`: starts dbt, parses the project, and builds on a line of standard input.

Starting dbt and parsing the project takes seconds and does not need the warehouse, so a caller can start this process before the build.
A line on standard input starts the build. The end of standard input ends the process at once, so that it never outlives its caller.
COMMON are the options of both steps.
"""

import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final

FAILED: Final = 1
BROKEN: Final = 2
"""Exit codes, equal to dbt's. 1: a node of the build did not pass. 2: dbt could not run the command."""
ABANDONED: Final = 3
"""Exit code when the caller has exited."""
COLLECT_AFTER: Final = (100_000, 50, 100)
"""Thresholds of Python's garbage collector, by generation: in a short-lived process most objects survive, so collecting is wasted work."""


def main(arguments: Sequence[str]) -> int:
    """Runs dbt and returns the exit code. It needs its own process, because it hides pandas from all modules. dbt prints the errors."""
    split = arguments.index("--")
    common, build = list(arguments[:split]), list(arguments[split + 1 :])
    told = threading.Event()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    sys.modules["pandas"] = None  # type: ignore[assignment]  # Snowflake's client would import it, which takes a second; dbt does not use it
    from dbt.cli.exceptions import DbtUsageException  # noqa: PLC0415 - only then
    from dbt.cli.main import dbtRunner  # noqa: PLC0415
    from dbt.contracts.graph.manifest import Manifest  # noqa: PLC0415

    parsed = dbtRunner().invoke(["--no-use-colors", "--log-level", "none", "parse", *common])
    # without a manifest the build parses the project itself and reports its errors
    manifest = parsed.result if isinstance(parsed.result, Manifest) else None
    told.wait()
    done = dbtRunner(manifest=manifest).invoke(["--no-use-colors", "build", *common, *build])
    if isinstance(done.exception, DbtUsageException):  # the only exception that dbt does not print
        print(done.exception, file=sys.stderr)  # noqa: T201 - its console is a file that the caller shows
    if done.exception is not None:
        return BROKEN
    return 0 if done.success else FAILED


def _listen(told: threading.Event) -> None:
    if sys.stdin.readline():
        told.set()
        sys.stdin.read()
    os._exit(ABANDONED)


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    sys.exit(main(sys.argv[1:]))
