"""Measures what a transaction costs at a bank's size: `python -m benchmarks.scale [--customers N] [--events M] [--full]`.

One partition without Kafka: the agent with its unit of work, the cache limit as shipped, and RocksDB. The cases:

- Random customers with 100 stored events each: 1,000 (all are in the cache), 10,000 and N customers.
- A customer with M stored events in turn with quiet ones, and at the end two such customers in turn. The shipped rules fire on each of
  their transactions, so this is measured with these rules and without any.
- Deriving: the histories of at most 20,000 customers, and of one with M events, are made from the changelog's records, as after a restore.

For the first two: new transactions in order, transactions an hour late, and corrections of an amount a minute, 1 day and 15 days back
("a minute": for a large customer up to an hour; most such random customers are still in the cache). Each case has its own process
and store. The cases run interleaved, in rounds. Before a figure is printed, the windows of a sample of the records are compared with a
recomputation from a list, and derived histories with the events they were made from.

`us` is microseconds of processor time a record, of the best round. It has an equal share of the unit of work and of the write to the
store, with RocksDB's own threads, and about 1.5 us for the clock. `ratio` is to new transactions of 10,000 random customers, or to those
of the quiet customers. `noise` is how much more the worst round took. `longest` is the slowest record, or step of deriving, of all
rounds, in milliseconds of processor time. RSS is of the case's process, with the records of the benchmark. The bytes on disk are those of
the store's directory after it was filled.
"""

import argparse
import itertools
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil
from rocksdict import Cache

from app.config.rules_file import load_rules
from app.domain.records import TransactionRecord
from app.domain.rules.rule import RuleSet
from app.domain.velocity import RETENTION_US
from app.engine.store import Store
from app.native.history import without_rules
from app.runtime import gc_tuning
from benchmarks.figures import say
from benchmarks.stored_customers import BankPartition, BruteForce, Records, fill, stored_event, windows_of
from tables.encoding import after_prefix, number_key
from tables.velocity_events import EVENTS
from tables.velocity_histories import HISTORIES, derive, read_history
from tests.support.streams.velocity import DAY_US, HOUR_US, MINUTE_US

EACH: Final = 100
"""The stored events of every customer but the large ones."""
IN_MEMORY: Final = 1_000
BASE: Final = 10_000
UNIT: Final = 500
"""The records of one unit of work."""
SAMPLES: Final = 40
"""The random customers whose windows are checked. One record in `SAMPLED` is of one of them."""
SAMPLED: Final = 100
AGES: Final = {
    "corrected, 1 day back": DAY_US,
    "corrected, 15 days back": 15 * DAY_US,
}
NEW, LATE, MINUTE = "new, in order", "new, an hour late", "corrected, a minute back"
LARGE, OTHER_LARGE, FIRST_QUIET = 1, 2, 3
QUIET: Final = 500
"""The number of quiet customers, who all are in the cache."""
DERIVED: Final = 20_000
"""The customers whose histories are derived, at most."""
IN_TURN: Final = 20
"""The records of two large customers in turn."""
ROUNDS: Final = 3

Named = tuple[str, TransactionRecord]
"""A record, and what is measured with it. An empty name: nothing, it prepares others."""


@dataclass
class Found:
    """What one round of a case measured, by what was done."""

    us: dict[str, float] = field(default_factory=dict)
    longest_ms: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def add(self, took_us: dict[str, list[float]]) -> None:
        """Add what single records took."""
        for name, each in took_us.items():
            self.us[name], self.longest_ms[name] = statistics.fmean(each), max(each) / 1_000


class Stream:
    """Gives records to a partition, and checks the windows that it answers."""

    def __init__(self, path: Path, rules: RuleSet, counts: dict[int, int], step_us: int) -> None:
        """`counts`: the customers whose windows can be checked, each with its number of stored events."""
        self.records, self._model, self._partition = Records(step_us), BruteForce(counts), BankPartition(path, rules)
        gc_tuning.tune()

    def process(self, made: Sequence[Named], found: Found, *, checked_from: int = 0) -> None:
        """Processes records and measures them. The windows of the records from `checked_from` on are checked, if they can be."""
        took: dict[str, list[float]] = defaultdict(list)
        for at in range(0, len(made), UNIT):
            batch, expected = made[at : at + UNIT], []
            for number, (_, record) in enumerate(batch, at):
                self._model.apply(record)
                expected.append(self._model.windows(record) if number >= checked_from else None)
            timed, velocities = self._partition.process([record for _, record in batch])
            rest_ns = timed.rest_ns / len(batch)
            for (name, record), ns, answer, windows in zip(batch, timed.handler_ns, velocities, expected, strict=True):
                assert windows is None or windows_of(answer) == windows, record
                if name:
                    took[name].append((ns + rest_ns) / 1_000)
        found.add(took)


def random_customers(path: Path, customers: int, count: int) -> Iterator[Found]:
    """Yields rounds of random customers. `count`: the new transactions of a round."""
    rnd = random.Random(customers)
    sampled = rnd.sample(range(customers), SAMPLES)
    stream = Stream(path, load_rules(None), dict.fromkeys(sampled, EACH), RETENTION_US // (BASE * EACH))
    make, disk = stream.records, _disk_bytes(path) / (customers * EACH)

    def some(number: int) -> list[int]:
        chances = (rnd.randrange(SAMPLED) for _ in range(number))
        return [rnd.choice(sampled) if chance == 0 else rnd.randrange(customers) for chance in chances]

    stream.process([("", make.new(it)) for it in some(max(count, 4 * IN_MEMORY))], Found())
    while True:
        found = Found()
        stream.process([(NEW, make.new(it)) for it in some(count)], found)
        stream.process([(LATE, make.new(it, HOUR_US)) for it in some(count // 4)], found)
        early = [make.new(it, MINUTE_US) for it in some(count // 4)]
        stream.process([("", it) for first in early for it in (first, make.new(first.customer_id))], Found())
        stream.process([(MINUTE, make.again(it)) for it in early], found)
        for name, age_us in AGES.items():
            stream.process([(name, make.correction(it, age_us, EACH)) for it in some(count // 4)], found)
        found.note = f"{_rss_mib():,.0f} MiB RSS, {disk:.1f} bytes an event on disk"
        yield found


def large_customer(path: Path, events: int, rules: RuleSet, count: int) -> Iterator[Found]:
    """Yields rounds of a customer with so many events in turn with quiet ones. `count`: the new transactions of each in a round."""
    counts = {LARGE: events, OTHER_LARGE: events, **dict.fromkeys(range(FIRST_QUIET, FIRST_QUIET + QUIET), EACH)}
    stream = Stream(path, rules, counts, RETENTION_US // events // 2)
    make, turn, behind = stream.records, itertools.cycle(range(FIRST_QUIET, FIRST_QUIET + QUIET)), 0
    touch = Found()
    stream.process([("", make.new(next(turn))) for _ in range(QUIET)], touch, checked_from=QUIET - 1)
    stream.process([("large: first touch", make.new(LARGE))], touch, checked_from=1)

    def process(name: str, made: list[TransactionRecord], checked: int) -> None:
        named = [(f"{'large' if it.customer_id == LARGE else 'quiet'}: {name}", it) for it in made]
        stream.process(named, found, checked_from=len(named) - checked)

    for number in range(ROUNDS):
        found, checked = Found(), 2 if number == ROUNDS - 1 else 0
        early = [make.new(it) for _ in range(count) for it in (LARGE, next(turn))]
        process(NEW, early, checked)
        process(MINUTE, [make.again(it) for it in reversed(early)], checked)
        process(LATE, [make.new(it, HOUR_US) for _ in range(count) for it in (LARGE, next(turn))], checked)
        for name, age_us in AGES.items():
            corrected = [
                make.correction(it, age_us, counts[it], behind + at if it == LARGE else 0)
                for at in range(count)
                for it in (LARGE, next(turn))
            ]
            process(name, corrected, checked)
        behind += count
        if number == ROUNDS - 1:
            both = [make.new(it) for _ in range(IN_TURN // 2) for it in (OTHER_LARGE, LARGE)]
            stream.process([("two large ones in turn", it) for it in both], found, checked_from=IN_TURN - 2)
            found.us |= touch.us
            found.longest_ms |= touch.longest_ms
        found.note = f"{_rss_mib():,.0f} MiB RSS"
        yield found


def deriving(path: Path, customers: Sequence[tuple[int, int]]) -> Iterator[Found]:
    """Yields rounds of making histories from the changelog's records."""
    without_rules()  # a worker has loaded the library before
    events = sum(count for _, count in customers)
    while True:
        shutil.rmtree(path, ignore_errors=True)
        fill(path, customers, is_restore=True)
        store, steps_us, began = Store(path, block_cache=Cache(32 << 20)), list[float](), time.process_time()
        step_began = time.thread_time()
        for step in derive(store):
            store.write(step.changes, {})
            steps_us.append((time.thread_time() - step_began) * 1e6)
            step_began = time.thread_time()
        took_us = (time.process_time() - began) * 1e6
        assert next(store.scan(EVENTS.name), None) is None
        for customer_id, count in random.Random(7).sample(customers, min(SAMPLES, len(customers))):
            prefix = number_key(customer_id)
            entries = store.scan(HISTORIES.name, prefix, after_prefix(prefix))
            history = read_history(entries, without_rules())
            assert all(one == stored_event(customer_id, at, count) for at, one in enumerate(history)), (
                f"the derived history of {customer_id} is wrong"
            )
            assert len(history) == count
        store.close()
        name = f"{len(steps_us):,} steps"
        yield Found({name: took_us / events}, {name: max(steps_us) / 1_000}, f"{events * 1e6 / took_us:,.0f} records/s")


class Case:
    """A case in its own process, which measures a round when it is asked to."""

    def __init__(self, title: str, rounds: Callable[..., Iterator[Found]], *arguments: object) -> None:
        self.title, self.found = title, list[Found]()
        self._ours, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_serve, args=(theirs, rounds, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def measure(self) -> None:
        """Measures a round. Raises EOFError if the process has failed; it has written why."""
        self._ours.send(True)
        self.found.append(self._ours.recv())

    def close(self) -> None:
        """Ends the process."""
        self._ours.send(False)
        self._process.join()

    def print(self, base_us: float | None, base: str = NEW) -> float:
        """Prints the figures, with ratios to `base_us`, or to `base` if that is None. Returns what `base` takes in microseconds."""
        best = {name: min(one.us[name] for one in self.found if name in one.us) for name in self.found[-1].us}
        base_us = base_us or best.get(base, next(iter(best.values())))
        print(f"\n{self.title}: {self.found[-1].note}")
        for name, us in best.items():
            mine = [one for one in self.found if name in one.us]
            noise, longest_ms = max(one.us[name] for one in mine) / us - 1, max(one.longest_ms[name] for one in mine)
            print(
                f"  {name:32} {us:12,.1f} us {us / base_us:9,.2f} ratio {noise:7.0%} noise {longest_ms:9,.2f} ms longest"
            )
        return base_us


def _serve(connection: Connection, rounds: Callable[..., Iterator[Found]], arguments: Sequence[object]) -> None:
    measured = rounds(*arguments)
    while connection.recv():
        connection.send(next(measured))


def _alone(function: Callable[..., None], *arguments: object) -> None:
    """Calls a function in a process of its own, so that its memory is not that of the case."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def _disk_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _rss_mib() -> float:
    return float(psutil.Process().memory_info().rss) / (1 << 20)


def _measure(cases: Sequence[Case]) -> None:
    for number in range(ROUNDS):
        for case in cases:
            say(f"round {number + 1} of {ROUNDS}: {case.title}")
            case.measure()
    for case in cases:
        case.close()


def main() -> None:
    """Fills, measures, checks and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--customers", type=int, default=100_000, help="random customers, with 100 events each")
    parser.add_argument("--events", type=int, default=100_000, help="events of a large customer")
    parser.add_argument(
        "--full", action="store_true", help="1,000,000 of both, which takes about 10 GB of memory and disk"
    )
    parser.add_argument("--records", type=int, default=10_000, help="new transactions of random customers in a round")
    chosen = parser.parse_args()
    customers, events = (1_000_000, 1_000_000) if chosen.full else (chosen.customers, chosen.events)
    count = chosen.records
    with tempfile.TemporaryDirectory(prefix="bankstream-scale-") as folder:
        home = Path(folder)
        cases = []
        for number in sorted({IN_MEMORY, BASE, customers}):
            say(f"filling {number:,} customers")
            _alone(fill, home / str(number), [(customer_id, EACH) for customer_id in range(number)])
            title = f"{number:,} random customers"
            cases.append(Case(title, random_customers, home / str(number), number, count))
        _measure(cases)
        base_us = min(one.us[NEW] for one in cases[1].found)
        for case in cases:
            case.print(base_us)
        cases, quiet = [], [(FIRST_QUIET + at, EACH) for at in range(QUIET)]
        for name, rules in (("shipped rules", load_rules(None)), ("no rules", RuleSet(()))):
            say(f"filling a customer with {events:,} events")
            _alone(fill, home / name, [(LARGE, events), (OTHER_LARGE, events), *quiet])
            title = f"a large customer with {events:,} events, {name}"
            cases.append(Case(title, large_customer, home / name, events, rules, count // 10))
        _measure(cases)
        for case in cases:
            case.print(None, f"quiet: {NEW}")
        cases = [
            Case(
                f"deriving {len(of):,} customers with {of[0][1]:,} events each",
                deriving,
                home / f"derived {len(of)}",
                of,
            )
            for of in ([(customer_id, EACH) for customer_id in range(min(customers, DERIVED))], [(LARGE, events)])
        ]
        _measure(cases)
        for case in cases:
            case.print(None)


if __name__ == "__main__":
    main()
