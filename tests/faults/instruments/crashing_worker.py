"""Runs a worker that kills itself at a named point.

Usage: `python -m tests.faults.instruments.crashing_worker streams --at after-outputs --nth 7`.
"""

import argparse
import os

from app.runtime import worker
from tests.faults.instruments import crash_points


def main() -> None:
    """Installs the crash point, then runs the worker as `bankstream worker` does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(worker.KINDS))
    parser.add_argument("--at", required=True, choices=sorted(crash_points.POINTS))
    parser.add_argument("--nth", type=int, default=1, help="which time the point is reached")
    chosen = parser.parse_args()
    if crash_points.POINTS[chosen.at].kind != chosen.kind:
        parser.error(f"a {chosen.kind} worker never reaches {chosen.at}")
    os.environ |= {crash_points.AT: chosen.at, crash_points.NTH: str(chosen.nth)}
    crash_points.install()
    worker.run(chosen.kind)


if __name__ == "__main__":
    main()
