"""`python -m tests.faults`: every row of the table, or those that are named. See docs/FAULTS.md."""

import argparse
import faulthandler
import signal
import sys
from pathlib import Path

from tests.faults import results
from tests.faults.bank import bank
from tests.faults.rows import table
from tests.faults.run import Runner


def main() -> int:
    """The exit code: 0 if everything held."""
    faulthandler.register(signal.SIGUSR1)
    rows = table()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"rows to run, all if none: {', '.join(rows)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="streams workers")
    parser.add_argument("--json", type=Path, help="where to write the results")
    arguments = parser.parse_args()
    chosen = [rows[name] for name in arguments.names] or list(rows.values())
    found = results.Results(arguments.seed, arguments.workers)
    shared = [row for row in chosen if not row.own_bank]
    for group in ([shared] if shared else []) + [[row] for row in chosen if row.own_bank]:
        with bank(seed=arguments.seed, streams_workers=arguments.workers) as under_test:
            runner = Runner(under_test, arguments.seed, say)
            for row in group:
                say(f"{row.number:>2} {row.name}: {row.does}")
                outcome = runner.run(row)
                found.rows.append(outcome)
                say_outcome(outcome)
                if arguments.json:
                    results.write(found, arguments.json)
    bad = [outcome.name for outcome in found.rows if not outcome.good]
    say(
        f"{len(found.rows) - len(bad)} rows held, {len(bad)} did not: {', '.join(bad)}"
        if bad
        else f"all {len(found.rows)} rows held"
    )
    return 1 if bad else 0


def say_outcome(outcome: results.Outcome) -> None:
    """One line, and what went wrong."""
    recovery = f", recovery {max(outcome.recovery_s):.1f} s at most" if outcome.recovery_s else ""
    say(
        f"   fired {outcome.fired}, {outcome.events} events, lost {outcome.lost}, doubled {outcome.doubled}, wrong {outcome.wrong}"
        f"{recovery}, drained in {outcome.drain_s:.1f} s, {outcome.seconds:.0f} s in all"
    )
    for problem in outcome.problems:
        say(f"   seed {outcome.seed}: {problem}")


def say(line: str) -> None:
    """To people, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
