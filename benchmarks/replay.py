"""Measures the cost of a replayed transaction: `python -m benchmarks.replay [--transactions N] [--against CHECKOUT] [--profile]`.

It generates a recording (customers, accounts, then transactions of 90 days; few customers have many and most have few; one
transaction in six is posted by a separate update) and replays it several times in a separate process. The best run counts, in
processor time without the start of the process. Before a speed is printed, a sample of the resulting windows is compared with
a recomputation from a list.
`--against` alternates runs of another checkout with runs of this one, compares the outputs of both byte by byte, and prints the ratio.
"""

import argparse
import cProfile
import filecmp
import itertools
import json
import pstats
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from app.domain.records import TransactionRecord, VelocityRecord
from tests.support.streams.velocity import naive_windows

HERE = Path(__file__).resolve().parents[1]
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 90
POSTED_LATER = 1 / 6
SAMPLES = 100
HEADERS = [
    "__debezium.context.connectorLogicalName", "bank", "__debezium.context.taskId", "0",
    "__debezium.context.connectorName", "postgresql", "__debezium.context.runId", "01a20edd-fc21-79f9-b655-3686d3f31e75",
]  # fmt: skip
COUNTRIES = ["DE", "FR", "PL", "ES", "IT", "NL", "IE", "PT"]

RUN = """
import gc, sys, time
from pathlib import Path
from app.proof.replay.outputs import Outputs
from app.proof.replay.recording import read
from app.config.topics import read_catalogue
from app.proof.replay.run import Replay
from app.config.settings import WorkerSettings
replay = Replay(read_catalogue({}), WorkerSettings())
with Outputs(Path(sys.argv[2]), replay.outputs) as outputs:
    started = time.process_time()
    summary = replay.run(read([Path(sys.argv[1])], replay.inputs, lambda _: None), outputs)
    took = time.process_time() - started
print(took, summary.records)
"""


class Recorder:
    """Writes lines in the format of `kcat -C -J`, with values in the format of the connector."""

    def __init__(self) -> None:
        self._offsets: dict[tuple[str, int], int] = defaultdict(int)
        self._lsn, self._tx_id = 28_000_000, 700

    def line(self, table: str, op: str, commit: datetime, key: dict[str, int], before: Any, after: Any) -> bytes:
        """Returns the line of one change."""
        if op != "r":
            self._lsn, self._tx_id = self._lsn + 208, self._tx_id + 1
        us = round((commit - START).total_seconds() * 1e6) + int(START.timestamp()) * 1_000_000
        payload = {
            "before": before,
            "after": after,
            "source": {
                "version": "3.6.1.Final", "connector": "postgresql", "name": "bank", "ts_ms": us // 1000,
                "snapshot": "true" if op == "r" else "false", "db": "bank",
                "sequence": f'["{self._lsn}","{self._lsn}"]', "ts_us": us, "ts_ns": us * 1000, "schema": "public", "table": table,
                "txId": self._tx_id, "lsn": self._lsn, "xmin": None, "origin": None, "origin_lsn": None,
            },
            "transaction": None, "op": op, "ts_ms": us // 1000 + 20, "ts_us": us + 20_411, "ts_ns": us * 1000 + 20_411_512,
        }  # fmt: skip
        topic, partition = f"bank.public.{table}", next(iter(key.values())) % 4
        offset = self._offsets[topic, partition]
        self._offsets[topic, partition] = offset + 1
        return json.dumps({
            "topic": topic, "partition": partition, "offset": offset, "tstype": "create", "ts": us // 1000 + 35, "broker": 1,
            "headers": HEADERS, "key": _compact(key), "payload": _compact(payload),
        }).encode() + b"\n"  # fmt: skip


def recording(transactions: int, seed: int = 1) -> Iterator[bytes]:
    """Yields the lines of 90 days of a bank with about `transactions` changes of transactions."""
    rnd, log = random.Random(seed), Recorder()
    customers = range(1, max(transactions // 100, 10) + 1)
    accounts = {customer: [2 * customer - 1, 2 * customer] for customer in customers}
    home = {customer: rnd.choice(COUNTRIES) for customer in customers}
    yield from _snapshot(log, accounts, home)
    weights = list(itertools.accumulate(1 / (rank + 3) ** 0.9 for rank in customers))
    moments = sorted(rnd.uniform(0, DAYS * 86_400) for _ in range(round(transactions / (1 + POSTED_LATER))))
    settling: list[tuple[datetime, dict[str, Any]]] = []
    for number, seconds in enumerate(moments, 1):
        booked = START + timedelta(seconds=seconds)
        while settling and settling[0][0] < booked:
            moment, row = settling.pop(0)
            yield log.line(
                "transactions", "u", moment, {"account_id": row["account_id"]}, row, row | {"status": "posted"}
            )
        (customer,) = rnd.choices(customers, cum_weights=weights)
        row = _transaction(rnd, number, rnd.choice(accounts[customer]), home[customer], booked)
        yield log.line(
            "transactions", "c", booked + timedelta(seconds=0.4), {"account_id": row["account_id"]}, None, row
        )
        if row["status"] == "pending":
            settling.append((booked + timedelta(hours=2), row))
    for moment, row in settling:
        yield log.line("transactions", "u", moment, {"account_id": row["account_id"]}, row, row | {"status": "posted"})


def _snapshot(log: Recorder, accounts: dict[int, list[int]], home: dict[int, str]) -> Iterator[bytes]:
    since = _iso(START - timedelta(days=200))
    for customer, country in home.items():
        row = {
            "customer_id": customer, "name": f"Olga Müller {customer}", "email": f"c{customer}@example.org", "phone": "+353 1 4098086",
            "date_of_birth": "1985-08-21Z", "address_line": "Church Lane 48", "city": "Dublin", "country_code": country,
            "kyc_status": "verified", "risk_rating": "medium", "created_at": since, "updated_at": since,
        }  # fmt: skip
        yield log.line("customers", "r", START, {"customer_id": customer}, None, row)
    for customer, owned in accounts.items():
        for account in owned:
            row = {
                "account_id": account, "customer_id": customer, "type": "checking", "currency": "EUR", "status": "active",
                "balance": "2898.40", "opened_at": since, "updated_at": since,
            }  # fmt: skip
            yield log.line("accounts", "r", START, {"account_id": account}, None, row)


def _transaction(rnd: random.Random, number: int, account: int, home: str, booked: datetime) -> dict[str, Any]:
    minor = int(rnd.lognormvariate(3.2, 1.3) * 100) + 1
    card = rnd.random() < 0.6
    return {
        "transaction_id": number, "account_id": account, "type": "debit" if card or rnd.random() < 0.5 else "credit",
        "amount": f"{minor // 100}.{minor % 100:02d}", "currency": "EUR" if rnd.random() < 0.97 else "USD",
        "status": "pending" if rnd.random() < POSTED_LATER else "declined" if rnd.random() < 0.02 else "posted",
        "channel": "card" if card else "transfer", "merchant_id": f"M{rnd.randrange(10**8):08d}" if card else None,
        "merchant_category": "7832" if card else None,
        "counterparty_account": None if card else f"EXT{account:06d}{rnd.randrange(20):06d}",
        "country_code": home if rnd.random() < 0.96 else rnd.choice(COUNTRIES),
        "latitude": f"{rnd.uniform(35, 60):.6f}" if card else None, "longitude": f"{rnd.uniform(-9, 20):.6f}" if card else None,
        "device_id": f"D{account:08d}", "description": "cinema" if card else "rent", "booked_at": _iso(booked),
        "created_at": _iso(booked + timedelta(seconds=0.3)),
    }  # fmt: skip


def check(out: Path) -> None:
    """Compares a sample of windows with the recomputation."""
    records = msgspec.json.Decoder(TransactionRecord)
    rows: dict[int, dict[int, TransactionRecord]] = defaultdict(dict)
    transactions = [records.decode(value) for value in _values(out / "bank.transactions.ndjson")]
    velocities = list(_values(out / "bank.velocity.ndjson"))
    assert len(velocities) == len(transactions) > 0
    chosen = set(random.Random(5).sample(range(len(transactions)), min(SAMPLES, len(transactions))))
    for at, (record, value) in enumerate(zip(transactions, velocities, strict=True)):
        rows[record.customer_id][record.transaction_id] = record
        if at in chosen:
            velocity = msgspec.json.decode(value, type=VelocityRecord)
            expected = naive_windows(rows[record.customer_id].values(), record)
            assert (velocity.transaction_id, velocity.windows) == (record.transaction_id, expected), record


def _values(path: Path) -> Iterator[bytes]:
    line = msgspec.json.Decoder(dict[str, msgspec.Raw])
    with path.open("rb") as lines:
        for text in lines:
            yield bytes(line.decode(text)["value"])


def run(checkout: Path, file: Path, out: Path) -> tuple[float, int]:
    """Replays in a separate process. Returns seconds of processor time, and the number of changes read."""
    command = [sys.executable, "-c", RUN, str(file), str(out)]
    done = subprocess.run(
        command, cwd=checkout, env={"PYTHONPATH": str(checkout)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    took_s, records = done.stdout.split()
    return float(took_s), int(records)


def profile(file: Path, out: Path) -> None:
    """Prints the time by function from cProfile, which overstates small functions."""
    sys.argv[1:] = [str(file), str(out)]
    profiler = cProfile.Profile()
    profiler.run(RUN)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> None:
    """Generates, measures, checks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=300_000, help="changes of transactions in the recording")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout of this repository, to compare with")
    parser.add_argument("--plain", action="store_true", help="the recording is not compressed")
    parser.add_argument("--keep", type=Path, help="directory for the recording and the outputs, kept for the next run")
    parser.add_argument("--profile", action="store_true", help="print a profile instead")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        where = chosen.keep or Path(temporary)
        where.mkdir(parents=True, exist_ok=True)
        file = where / f"{chosen.transactions}.ndjson{'' if chosen.plain else '.zst'}"
        if not file.exists():
            text = b"".join(recording(chosen.transactions))
            file.write_bytes(text if chosen.plain else zstandard.compress(text, 3))
        if chosen.profile:
            profile(file, where / "profiled")
            return
        checkouts = [HERE, *([chosen.against.resolve()] if chosen.against else [])]
        best = dict.fromkeys(checkouts, float("inf"))
        records = 0
        for _ in range(chosen.rounds):
            for number, checkout in enumerate(checkouts):
                took_s, records = run(checkout, file, where / str(number))
                best[checkout] = min(best[checkout], took_s)
        check(where / "0")
        for checkout, took_s in best.items():
            print(
                f"{records / took_s:10,.0f} events/s/core  {took_s * 1e6 / records:6.1f} us an event  {checkout.name}"
            )
        if chosen.against:
            names = sorted(path.name for path in (where / "0").iterdir())
            _, mismatch, errors = filecmp.cmpfiles(where / "0", where / "1", names, shallow=False)
            print(f"{best[checkouts[1]] / best[HERE]:10.2f} times as fast")
            if mismatch or errors:
                raise SystemExit(f"the outputs differ: {', '.join(mismatch + errors)}")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


if __name__ == "__main__":
    main()
