"""Runs rows of the table of faults (all, or the named ones) or the random mode: `python -m tests.faults`. See docs/FAULTS.md."""

import argparse
import faulthandler
import signal
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

from tests.faults import random_mode, report, results
from tests.faults.bank import bank
from tests.faults.rows import table
from tests.faults.run import Runner


def main() -> int:
    """Runs the command and returns its exit code: 0 if all checks passed."""
    faulthandler.register(signal.SIGUSR1)
    rows = table()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"rows to run, all if none: {', '.join(rows)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, help="number of streams workers; default 2, in the random mode 3")
    parser.add_argument("--rate", type=int, help="row changes per second, in place of the row's own rate")
    parser.add_argument("--times", type=int, help="how often each fault fires, in place of the row's own number")
    parser.add_argument("--minutes", type=float, help="run the random mode for this time")
    parser.add_argument("--events", type=int, help="row changes in the random mode; default 505 per second")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--report", type=Path, nargs="+", help="run nothing, write docs/FAULTS.md from these results")
    arguments = parser.parse_args()
    if arguments.report:
        report.write(arguments.report, rows)
        return 0
    if unknown := [name for name in arguments.names if name not in rows]:
        parser.error(f"no such row: {', '.join(unknown)}")
    return run_random(arguments) if arguments.minutes else run_rows(arguments)


def run_random(arguments: argparse.Namespace) -> int:
    """Runs the random mode once and returns the exit code."""
    workers, seconds = arguments.workers or 3, arguments.minutes * 60
    with bank(seed=arguments.seed, streams_workers=workers) as under_test:
        say(f"random mode: seed {arguments.seed}, {workers} streams workers, {seconds:.0f} s")
        runner = Runner(under_test, arguments.seed, say)
        outcome = random_mode.run(runner, table(), seconds=seconds, events=arguments.events or round(505 * seconds))
    say(f"   {', '.join(outcome.proofs)}")
    say_outcome(outcome)
    if arguments.json:
        results.write(results.Results(arguments.seed, workers, [outcome]), arguments.json)
    say(
        "all held"
        if outcome.good
        else f"it did not hold: make faults SEED={arguments.seed} MINUTES={arguments.minutes:g}"
    )
    return 0 if outcome.good else 1


def run_rows(arguments: argparse.Namespace) -> int:
    """Runs rows and returns the exit code. All rows without `own_bank` share one bank."""
    rows, workers = table(), arguments.workers or 2
    chosen = [rows[name] for name in arguments.names] or list(rows.values())
    if arguments.rate:
        chosen = [replace(row, rate=arguments.rate) for row in chosen]
    if arguments.times:
        chosen = [replace(row, times=arguments.times) for row in chosen]
    found = results.Results(arguments.seed, workers)
    shared = [row for row in chosen if not row.own_bank]
    for group in ([shared] if shared else []) + [[row] for row in chosen if row.own_bank]:
        with bank(seed=arguments.seed, streams_workers=workers) as under_test:
            runner = Runner(under_test, arguments.seed, say)
            for row in group:
                say(f"{row.number:>2} {row.name}: {row.does}")
                outcome = runner.run(row)
                found.rows.append(outcome)
                say_outcome(outcome)
                if arguments.json:
                    results.write(found, arguments.json)
    bad = [outcome.name for outcome in found.rows if not outcome.good]
    say(f"{len(found.rows) - len(bad)} rows held, {len(bad)} did not{': ' if bad else ''}{', '.join(bad)}")
    return 1 if bad else 0


def say_outcome(outcome: results.FaultResult) -> None:
    """Prints one line for a result, and one line for each problem."""
    recovery = outcome.recovery_s
    say(
        f"   fired {outcome.fired}, {outcome.events} events, lost {outcome.lost}, doubled {outcome.doubled}, wrong {outcome.wrong}, "
        + (f"recovery {median(recovery):.1f} s, at most {max(recovery):.1f} s, " if recovery else "")
        + f"drained in {outcome.drain_s:.1f} s, verified in {outcome.verify_s:.1f} s, {outcome.seconds:.0f} s in all, exits {outcome.exits}"
    )
    for problem in outcome.problems:
        say(f"   seed {outcome.seed}: {problem}")


def say(line: str) -> None:
    """Prints a line and flushes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
