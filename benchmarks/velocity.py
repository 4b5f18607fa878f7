"""Measures the cost of one transaction in velocity and rules: `python -m benchmarks.velocity [EVENTS OF THE HOT CUSTOMER]`.

Each case is a stream of transactions. Before its speed is printed, a sample of its windows is compared with a recomputation from a list.
Cases run interleaved, several times; the best run of each counts (processor time), and is printed as a ratio to the first case.
`naive` is the recomputation itself on the typical customers; it shows what the data structure saves.
"""

import gc
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from agents import velocity
from app.config.rules_file import load_rules
from app.config.topics import DEAD_LETTERS, TRANSACTIONS
from app.domain.records import TransactionRecord, VelocityRecord, encode, key_bytes
from app.domain.rules.rule import RuleSet
from app.engine.memory import MemoryPartition
from app.engine.partition_group import PartitionGroup
from app.native.history import NativeHistory, Rules
from app.native.library import load
from app.native.velocity import Screener
from tables.truncations import TRUNCATIONS
from tables.velocity_histories import TABLES
from tests.support.bank.cdc import Record
from tests.support.streams.velocity import DAY_US, naive_windows, transaction

ROUNDS = 2
SAMPLES = 10
RULES = load_rules(None)
NO_RULES = RuleSet(())


@dataclass(frozen=True)
class Case:
    """A stream of transactions: `warm` is processed before the clock starts, `timed` is measured."""

    name: str
    warm: list[TransactionRecord]
    timed: list[TransactionRecord]
    rules: RuleSet = RULES


def purchases(count: int, *, customers: int, days: int, seed: int = 1) -> Iterator[TransactionRecord]:
    """Yields ordinary payments in time order, spread evenly."""
    rnd = random.Random(seed)
    for number in range(1, count + 1):
        minor = int(rnd.lognormvariate(3.2, 1.2) * 100) + 1
        yield transaction(
            number, number * days * DAY_US // count, f"{minor // 100}.{minor % 100:02d}", customer_id=rnd.randrange(customers),
            counterparty=f"EXT{rnd.randrange(40):012d}" if rnd.random() < 0.5 else None,
            country="DE" if rnd.random() < 0.95 else rnd.choice(["FR", "PL", "US"]),
            status="declined" if rnd.random() < 0.01 else "pending", commit_us=days * DAY_US,
        )  # fmt: skip


def again(records: list[TransactionRecord], **changes: object) -> list[TransactionRecord]:
    """Returns the same transactions, changed later."""
    return [
        replace(it, op="updated", source=replace(it.source, lsn=(it.source.lsn or 0) + 50), **changes) for it in records
    ]


def cases(hot: int) -> list[Case]:
    """Returns the cases: typical customers (100 transactions in 30 days), and a hot one."""
    typical = list(purchases(12_000, customers=120, days=30))
    one = list(purchases(hot + 5_000, customers=1, days=30))
    settled = [update for first in typical[10_000:] for update in (first, *again([first], status="posted"))]
    rnd = random.Random(3)
    early = rnd.sample(range(hot // 2, hot), 100)
    return [
        Case("typical, in order", typical[:10_000], typical[10_000:]),
        Case("typical, in order, no rules", typical[:10_000], typical[10_000:], NO_RULES),
        Case("typical, each created and then posted", typical[:10_000], settled),
        Case("typical, one in ten an hour late", typical[:10_000], late(typical[10_000:], rnd)),
        Case(f"hot ({hot:,} kept), in order", one[:hot], one[hot:]),
        Case("hot, each posted after 3 others", one[:hot], delayed(one[hot:], 3)),
        Case("hot, posted after up to 15 days, one by one", one[:hot], again([one[at] for at in early], status="posted")),
        Case("hot, amount changed after up to 15 days", one[:hot], again([one[at] for at in early], amount="3.00")),
    ]  # fmt: skip


def late(records: list[TransactionRecord], rnd: random.Random) -> list[TransactionRecord]:
    """Returns the records with every tenth delayed by an hour's worth of records."""
    order = sorted(range(len(records)), key=lambda at: at + (7 if rnd.random() < 0.1 else 0))
    return [records[at] for at in order]


def delayed(records: list[TransactionRecord], behind: int) -> list[TransactionRecord]:
    """Returns each record followed, after `behind` others, by its posting."""
    mixed = []
    for at, record in enumerate(records):
        mixed.append(record)
        if at >= behind:
            mixed += again([records[at - behind]], status="posted")
    return mixed


def measure(case: Case) -> tuple[float, list[VelocityRecord]]:
    """Returns the microseconds per change in the library, and the velocity records."""
    histories: dict[int, NativeHistory] = {}
    screener = Screener(Rules(load(), case.rules))
    elapsed, found = 0.0, list[bytes]()
    for records in (case.warm, case.timed):
        found = []
        changes = [(record.customer_id, encode(record)) for record in records]
        gc.collect()
        gc.freeze()
        started = time.process_time()
        for customer_id, value in changes:
            history = histories.get(customer_id)
            if history is None:
                history = histories[customer_id] = NativeHistory(screener.rules)
            screened = screener.screen(history, value, customer_id)
            assert screened is not None
            if screened.velocity:
                found.append(screened.velocity)
        elapsed = time.process_time() - started
    return elapsed * 1e6 / len(case.timed), [msgspec.json.decode(it, type=VelocityRecord) for it in found]


def check(case: Case, found: list[VelocityRecord]) -> None:
    """Compares a sample of windows with the recomputation."""
    rows: dict[int, TransactionRecord] = {it.transaction_id: it for it in case.warm}
    by_source = {(it.transaction_id, it.source.lsn): it for it in found}
    assert len(by_source) == len(case.timed), case.name
    chosen = set(random.Random(5).sample(range(len(case.timed)), SAMPLES))
    for at, record in enumerate(case.timed):
        rows[record.transaction_id] = record
        if at in chosen:
            mine = [it for it in rows.values() if it.customer_id == record.customer_id]
            actual = by_source[record.transaction_id, record.source.lsn].windows
            assert actual == naive_windows(mine, record), (case.name, record)


def naive(case: Case, count: int) -> float:
    """Returns the microseconds per change of the recomputation, for the first `count` changes of a case."""
    rows: dict[int, list[TransactionRecord]] = {}
    for record in case.warm:
        rows.setdefault(record.customer_id, []).append(record)
    started = time.process_time()
    for record in case.timed[:count]:
        mine = rows.setdefault(record.customer_id, [])
        mine.append(record)
        naive_windows(mine, record)
    return (time.process_time() - started) * 1e6 / count


def agent(case: Case) -> float:
    """Returns the microseconds per record of the whole agent on a partition in memory: decode, table, encode, emit."""
    group = PartitionGroup(
        "bench", "by-customer", (TRANSACTIONS.name,), (*TABLES, TRUNCATIONS), 4, lambda _: 4, DEAD_LETTERS.name,
    )  # fmt: skip
    partition = MemoryPartition(group, 0)
    handlers = {TRANSACTIONS.name: velocity.handler(case.rules, load())}
    elapsed = 0.0
    for records in (case.warm, case.timed):
        raw = [Record(TRANSACTIONS.name, encode(it), key_bytes("customer_id", it.customer_id)) for it in records]
        started = time.process_time()
        for at in range(0, len(raw), 500):
            partition.process(raw[at : at + 500], handlers, now_us=0)
        elapsed = time.process_time() - started
    return elapsed * 1e6 / len(case.timed)


def main(hot: int = 20_000) -> None:
    """Checks, measures and prints."""
    todo = cases(hot)
    best = {case.name: float("inf") for case in todo}
    for case in todo:
        check(case, measure(case)[1])
    for _ in range(ROUNDS):
        for case in todo:
            best[case.name] = min(best[case.name], measure(case)[0])
    first = best[todo[0].name]
    for name, took_us in best.items():
        print(f"{name:45} {took_us:10.1f} us a change  {took_us / first:8.2f}x")
    took_us = naive(todo[0], 200)
    print(f"{'naive recomputation, typical':45} {took_us:10.1f} us a change  {took_us / first:8.2f}x")
    took_us = min(agent(todo[0]) for _ in range(ROUNDS))
    print(f"{'whole agent in memory, typical':45} {took_us:10.1f} us a record  {took_us / first:8.2f}x")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
