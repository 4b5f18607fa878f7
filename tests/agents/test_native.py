"""The agents do what their oracles in Python do, byte by byte: outputs, dead letters, state, what the changelog hears, what is counted.

Both are fed the same records: ordinary ones, odd ones, and damaged ones. BANKSTREAM_NATIVE_EXAMPLES multiplies them.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from agents import transactions, velocity
from app.native.transaction_join import Joiner
from app.native.velocity import Screener
from tests.support.bank.cdc import Record
from tests.support.bank.hostile import CASES, Case
from tests.support.bank.hostile_bytes import DAY_US, Changes, Records, replacements
from tests.support.streams.native import EXAMPLES, FIRST_SEED, ParityCheck


@pytest.fixture(scope="module")
def twins() -> ParityCheck:
    return ParityCheck(cache_bytes=1 << 20)


@pytest.fixture(scope="module")
def forgetful() -> ParityCheck:
    """Parity checks that keep hardly a history in memory."""
    return ParityCheck(cache_bytes=0)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often the library did, or left to Python, each of its two tasks."""
    counts: Counter[str] = Counter()
    _count(monkeypatch, Joiner, "join", "joined", counts)
    _count(monkeypatch, Screener, "screen", "screened", counts)
    yield counts
    sys.stdout.write(f"{dict(counts)}\n")


def _count(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, name: str, counts: Counter[str]) -> None:
    original = getattr(kind, method)

    def counting(*args: Any, **options: Any) -> Any:
        answer = original(*args, **options)
        if not options:  # else Python wrote what is read
            counts[name if answer is not None else f"not {name}"] += 1
        return answer

    monkeypatch.setattr(kind, method, counting)


def seeds(count: int) -> range:
    return range(FIRST_SEED, FIRST_SEED + count * EXAMPLES)


def batched(rnd: Random, records: Sequence[Record]) -> list[Sequence[Record]]:
    """Splits records into batches of one or of several."""
    size = rnd.choice((1, 1, 7))
    return [records[at : at + size] for at in range(0, len(records), size)]


def changes(rnd: Random, count: int, oddity: float, mutation: float) -> list[Sequence[Record]]:
    source = Changes(rnd, oddity, mutation)
    return batched(rnd, [source.account(5), source.account(6), *(source.next() for _ in range(count))])


def records(rnd: Random, count: int, oddity: float, mutation: float) -> list[Sequence[Record]]:
    source = Records(rnd, oddity, mutation)
    return batched(rnd, [source.next() for _ in range(count)])


def test_ordinary_changes_of_transactions(twins: ParityCheck, done: Counter[str]) -> None:
    for seed in seeds(60):
        twins.check(changes(Random(seed), 60, oddity=0, mutation=0), seed)
    assert min(done["joined"], done["screened"]) > 1_000 * EXAMPLES


def test_odd_changes_of_transactions(twins: ParityCheck, done: Counter[str]) -> None:
    for seed in seeds(60):
        twins.check(changes(Random(seed), 60, oddity=Random(seed).choice((0.05, 0.3)), mutation=0), seed)
    assert min(done["joined"], done["not joined"]) > 500 * EXAMPLES


def test_damaged_changes_of_transactions(twins: ParityCheck, done: Counter[str]) -> None:
    for seed in seeds(60):
        twins.check(changes(Random(seed), 60, oddity=0.02, mutation=0.6), seed)
    assert min(done["joined"], done["not joined"]) > 500 * EXAMPLES


@pytest.mark.parametrize("name", ["twins", "forgetful"])
def test_ordinary_transactions(name: str, done: Counter[str], request: pytest.FixtureRequest) -> None:
    twins = request.getfixturevalue(name)
    for seed in seeds(50):
        twins.check(records(Random(seed), 100, oddity=0, mutation=0), seed)
    assert done["screened"] > 1_000 * EXAMPLES


@pytest.mark.parametrize("name", ["twins", "forgetful"])
def test_odd_transactions(name: str, done: Counter[str], request: pytest.FixtureRequest) -> None:
    twins = request.getfixturevalue(name)
    for seed in seeds(50):
        twins.check(records(Random(seed), 100, oddity=Random(seed).choice((0.05, 0.3)), mutation=0), seed)
    assert min(done["screened"], done["not screened"]) > 500 * EXAMPLES


def test_damaged_transactions(twins: ParityCheck, done: Counter[str]) -> None:
    for seed in seeds(60):
        twins.check(records(Random(seed), 100, oddity=0.02, mutation=0.6), seed)
    assert min(done["screened"], done["not screened"]) > 500 * EXAMPLES


@pytest.mark.parametrize("operation", [b"c", b"u", b"r"])
def test_each_odd_value_in_each_place_of_a_change(operation: bytes, twins: ParityCheck, done: Counter[str]) -> None:
    source = Changes(Random(1), 0, 0)
    batches = [[source.account(5)]]
    created, whole = source.whole(b"c"), source.whole(operation)
    for number, changed in enumerate(replacements(whole.value or b"")):
        if operation == b"u":
            batches.append([numbered(created, created.value or b"", number)])
        batches.append([numbered(whole, changed, number)])
    twins.check(batches)
    assert min(done["joined"], done["not joined"]) > 500


def test_each_odd_value_in_each_place_of_a_transaction(twins: ParityCheck, done: Counter[str]) -> None:
    whole = Records(Random(1), 0, 0).whole()
    changed = replacements(whole.value or b"")
    twins.check([[numbered(whole, value, number)] for number, value in enumerate(changed)])
    assert min(done["screened"], done["not screened"]) > 100


def numbered(record: Record, value: bytes, number: int) -> Record:
    """A record of another transaction and customer, with another value."""
    number += 1_000
    key = (record.key or b"").replace(b'"customer_id":1}', b'"customer_id":%d}' % number)
    value = value.replace(b'"transaction_id":7,', b'"transaction_id":%d,' % number)
    return replace(
        record, key=key, value=value.replace(b'"customer_id":1,', b'"customer_id":%d,' % number), offset=number
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NaN", "amount 'NaN' is not an amount of money"),
        ("", "amount '' is not an amount of money"),
        (" 1.00", "amount ' 1.00' is not an amount of money"),
        ("+1.00", "amount '+1.00' is not an amount of money"),
        (".50", "amount '.50' is not an amount of money"),
        ("1,000.00", "amount '1,000.00' is not an amount of money"),
        ("1e2", "amount '1e2' is not an amount of money"),
        ("\u0661.00", "amount '\u0661.00' is not an amount of money"),
        ("10000000000000000.00", "amount '10000000000000000.00' is not an amount of money"),
        ("1.005", "amount '1.005' has more than 2 digits after the point"),
        ("9999999999999999.99", ""),
        ("0.00", ""),
        ("1", ""),
        ("1.5", ""),
        ("1.000", ""),
        ("-1.00", "amount '-1.00' is negative; whether money comes or goes is the transaction's type"),
        ("01.00", ""),
    ],
)
def test_an_invalid_amount_of_a_transaction_is_refused_by_python_which_names_the_field(
    text: str, says: str, twins: ParityCheck, done: Counter[str]
) -> None:
    whole = Records(Random(1), 0, 0).whole()
    value = (whole.value or b"").replace(b'"amount":"1.00"', b'"amount":"%s"' % text.encode())
    assert (value != whole.value, text.encode() in value) == (True, True)
    (processed,) = twins.check([[numbered(whole, value, 1)]])
    assert [letter.message for letter in processed.dead_letters] == ([says] if says else [])
    assert not says or done["not screened"] == 1, "the library leaves what is invalid to Python"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_hostile_input(case: Case, twins: ParityCheck) -> None:
    twins.check([[record] for record in case.records()])


def test_what_is_ordinary_is_read_by_the_library_alone(twins: ParityCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """New transactions, corrections and deletions, with escapes in a text."""
    source = Changes(Random(1), 0, 0)
    wanted = [(operation, number) for operation in (b"c", b"u") for number in range(5)]
    moves = [source.ordinary(operation, number) for operation, number in wanted]
    moves += [replace(it, value=(it.value or b"").replace(b'"EUR"', b'"E\\"\\u0001"')) for it in moves[:5]]
    moves = [replace(it, offset=number) for number, it in enumerate(moves)]
    twins.check([[source.account(5)], moves])

    def refused(*_: object) -> None:
        raise AssertionError("Python read what the library should read")

    worker = twins.worker()
    worker.take([source.account(5)], 0)
    with monkeypatch.context() as patch:
        patch.setattr(transactions, "_decode", refused)
        patch.setattr(velocity, "_rewritten", refused)
        done = worker.take(moves[:10], 0)
    emitted = Counter(output.topic for one in done for output in one.outputs)
    assert emitted == {"bank.transactions": 10, "bank.velocity": 10}


@pytest.mark.parametrize("currency", ["", "EUROEUROS", "E\0", "€" * 100, "x" * 70_000, 'a"b\\'])
def test_a_currency_of_any_length_is_in_the_windows_of_what_comes_after_it(currency: str, twins: ParityCheck) -> None:
    source = Records(Random(1), 0, 0)
    records = [source.ordinary(1), source.ordinary(2, currency), source.ordinary(3), source.ordinary(4, currency)]
    done = twins.check([[record] for record in records])
    (velocity_record,) = (output.value or b"" for output in done[-1].outputs)
    assert b'"30d":{"count":4,"sum":"2.00",' in velocity_record


def test_a_long_silence_expires_any_number_of_events_at_once(twins: ParityCheck) -> None:
    source = Records(Random(1), 0, 0)
    first = [source.ordinary(number) for number in range(3_000)]
    source._us += 40 * DAY_US
    (done,) = twins.check([[*first, source.ordinary(9_000)]])
    (last,) = (one.value or b"" for one in done.outputs if b'"transaction_id":9000' in (one.value or b""))
    assert b'"30d":{"count":1,' in last
