"""`python -m app.operations.dbt.process COMMON… -- BUILD…`: one dbt that reads its project at once and builds when standard input says so.

Starting dbt and reading the project takes seconds in which the warehouse is not needed: whoever knows that a build will come can have that
behind them. A line on standard input lets it build. The end of standard input ends it, whatever it is at: it does not outlive its caller.
COMMON are options of both steps.
"""

import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final

FAILED: Final = 1
BROKEN: Final = 2
"""Exit codes as dbt's own: something of the build did not pass; dbt could not do what was asked."""
ABANDONED: Final = 3
"""Exit code when the caller is gone."""
COLLECT_AFTER: Final = (100_000, 50, 100)
"""Python's garbage collector, by generation: what a short life makes is mostly kept."""


def main(arguments: Sequence[str]) -> int:
    """The whole process, which must be one of its own: pandas is hidden from all of it. What went wrong is printed, as dbt does."""
    split = arguments.index("--")
    common, build = list(arguments[:split]), list(arguments[split + 1 :])
    told = threading.Event()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    sys.modules["pandas"] = None  # type: ignore[assignment]  # Snowflake's client would import it, for a second, and dbt needs none of it
    from dbt.cli.exceptions import DbtUsageException  # noqa: PLC0415 - only then
    from dbt.cli.main import dbtRunner  # noqa: PLC0415
    from dbt.contracts.graph.manifest import Manifest  # noqa: PLC0415

    parsed = dbtRunner().invoke(["--no-use-colors", "--log-level", "none", "parse", *common])
    # without a manifest the build reads the project itself, and says what is wrong with it
    manifest = parsed.result if isinstance(parsed.result, Manifest) else None
    told.wait()
    done = dbtRunner(manifest=manifest).invoke(["--no-use-colors", "build", *common, *build])
    if isinstance(done.exception, DbtUsageException):  # the only one that dbt does not print itself
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
