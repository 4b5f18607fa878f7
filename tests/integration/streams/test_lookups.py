"""Tests the lookup API of real workers: each worker answers for any key, from committed state, while workers join, leave or die."""

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from app.config.settings import KafkaSettings
from app.domain.records import key_bytes
from app.domain.times import format_us
from app.engine.kafka import connection
from app.engine.keys import partition_for
from app.local.stack.part import Part
from app.local.stack.ports import choose
from app.local.stack.stack import Stack
from app.operations.provision.steps import TOPICS
from app.web.tokens import entry, mint
from tests.support.bank.cdc import CdcLog, Record
from tests.support.machine.stack import private_stack, settings_of
from tests.support.machine.waiting import until
from tests.support.streams.committed import all_committed
from tests.support.streams.workers import Workers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CUSTOMERS, DEADLINE_S = 24, 60
NAME = "Ada Canary"
LARGE = "25000.00"
"""Above the threshold of a rule that needs no history."""


class Lookups:
    """Workers with the API, and a client."""

    def __init__(self, stack: Stack, directory: Path, workers: Workers) -> None:
        self.kafka, self.directory, self.workers = settings_of(stack, KafkaSettings), directory, workers
        self.token = mint()
        self.tokens_file, self.audit_file = directory / "tokens.toml", directory / "audit.ndjson"
        self.tokens_file.write_text(
            entry("tester", self.token, ("lookup", "pii", "alerts", "metrics")) + "rate_per_s = 5000\n"
        )
        self.tokens_file.chmod(0o600)
        self.ports: list[int] = []
        self.session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.token}"}, trust_env=False)
        self.people = CdcLog("customers", "customer_id")
        self.money = CdcLog("accounts", "account_id")
        self.moves = CdcLog("transactions", "account_id", lsn=10**6)

    def start(self, **environment: str) -> Any:
        """Starts one more worker and returns its process. Its port is the last of `ports`."""
        self.ports.append(choose(["api"], {}, {})["api"])
        return self.workers.start(
            "streams", by_faust=False, BANKSTREAM_API_PORT=str(self.ports[-1]), BANKSTREAM_API_TOKENS_FILE=str(self.tokens_file),
            BANKSTREAM_API_AUDIT_FILE=str(self.audit_file), BANKSTREAM_API_TOTAL_PER_S="5000", **environment,
        )  # fmt: skip

    async def get(self, path: str, port: int | None = None) -> tuple[int, Any]:
        """Status (0: no response) and body of a worker's response, by default of the first worker."""
        try:
            async with self.session.get(f"http://127.0.0.1:{port or self.ports[0]}{path}") as answer:
                return answer.status, await answer.json(content_type=None)
        except aiohttp.ClientError:
            return 0, None

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until the condition holds. Fails if a worker exits."""

        async def holds() -> bool:
            self.workers.check()
            return await condition()

        try:
            await until(holds, timeout_s=DEADLINE_S, message=f"{what}: not within {DEADLINE_S} s")
        except AssertionError as error:
            error.add_note(self.workers.logs())
            raise

    async def ready(self, *ports: int) -> None:
        """Waits until these workers are ready."""

        async def all_ready() -> bool:
            return all([(await self.get("/readyz", port))[0] == 200 for port in ports])

        await self.until(all_ready, f"workers ready at {ports}")

    async def found(self, path: str) -> Any:
        """Waits for a successful response, and returns it."""
        answer: list[Any] = []

        async def known() -> bool:
            status, body = await self.get(path)
            answer[:] = [body]
            return status == 200

        await self.until(known, path)
        return answer[0]

    async def people_and_accounts(self) -> None:
        """Customers, each with an account of the same number."""
        for key in range(CUSTOMERS):
            self.people.change("c", after={"customer_id": key, "name": f"{NAME} {key}", "country_code": "NO"})
            self.money.change(
                "c",
                after={"account_id": key, "customer_id": key, "type": "checking", "currency": "EUR", "balance": "1.00"},
            )
        await self.send(self.people.records + self.money.records)
        for key in range(CUSTOMERS):
            await self.found(f"/v1/customers/{key}")
            await self.found(f"/v1/accounts/{key}")

    def move(self, key: int, customer: int, amount: str = "1.00") -> Record:
        """Inserts a transaction that is booked now."""
        booked = format_us(time.time_ns() // 1000)
        row = {
            "transaction_id": key, "account_id": customer, "type": "debit", "amount": amount, "currency": "EUR",
            "status": "posted", "booked_at": booked, "country_code": "NO",
        }  # fmt: skip
        return self.moves.change("c", after=row)

    async def send(self, records: list[Record]) -> None:
        producer = AIOKafkaProducer(**connection(self.kafka), linger_ms=2)
        await producer.start()
        try:
            for record in records:
                await producer.send(
                    record.topic, record.value, record.key, partition_for(record.key, self.kafka.partitions)
                )
            await producer.flush()
        finally:
            await producer.stop()

    async def log(self, topic: str) -> dict[int, list[tuple[int, bytes | None]]]:
        """The offsets and keys of all committed records, by partition."""
        found = await all_committed(
            self.kafka, [TopicPartition(topic, number) for number in range(self.kafka.partitions)]
        )
        return {tp.partition: [(record.offset, record.key) for record in records] for tp, records in found.items()}


@pytest.fixture
def stack() -> Iterator[Stack]:
    with private_stack(Part.KAFKA, steps=(TOPICS,)) as running:
        yield running


@pytest.fixture
async def lookups(stack: Stack, tmp_path: Path) -> AsyncIterator[Lookups]:
    with Workers(stack.environment(), tmp_path) as workers:
        made = Lookups(stack, tmp_path, workers)
        try:
            yield made
        finally:
            await made.session.close()


async def test_any_worker_returns_committed_state_of_any_key_while_workers_join_and_leave(lookups: Lookups) -> None:
    lookups.start()
    second = lookups.start()
    first_port, second_port = lookups.ports
    await lookups.ready(first_port, second_port)
    await lookups.people_and_accounts()
    for port in lookups.ports:
        for key in range(CUSTOMERS):
            assert (await lookups.get(f"/v1/customers/{key}", port))[1]["attributes"]["name"] == f"{NAME} {key}"
            assert (await lookups.get(f"/v1/accounts/{key}", port))[1]["attributes"]["customer_id"] == key
    forwarded = [it["key"] for it in audit(lookups) if it.get("forwarded")]
    assert len(set(forwarded)) > CUSTOMERS // 4, "both workers have partitions, so both asked the other"
    assert NAME not in lookups.audit_file.read_text()

    # under load, each response has the effect of exactly the transactions before its position
    seen, answers = Counter[int](), list[tuple[int, int, int, int]]()
    done = asyncio.Event()

    async def ask(port: int) -> None:
        while not done.is_set():
            for key in range(CUSTOMERS):
                status, body = await lookups.get(f"/v1/customers/{key}/velocity", port)
                seen[status] += 1
                if status == 200:
                    position = body["state"]["positions"].get("bank.transactions", 0)
                    answers.append((key, body["state"]["partition"], position, body["windows"]["24h"]["count"]))

    asking = [asyncio.create_task(ask(port)) for port in (first_port, second_port)]
    numbers = iter(range(10**6))
    for _ in range(20):
        await lookups.send([lookups.move(number, number % CUSTOMERS) for number in (next(numbers) for _ in range(100))])
    lookups.workers.kill(second)
    third = lookups.start()
    await lookups.send([lookups.move(number, number % CUSTOMERS) for number in (next(numbers) for _ in range(200))])
    await lookups.ready(first_port, lookups.ports[2])
    await lookups.send([lookups.move(number, number % CUSTOMERS) for number in (next(numbers) for _ in range(200))])
    each = next(numbers) // CUSTOMERS

    async def all_counted() -> bool:
        found = [await lookups.get(f"/v1/customers/{key}/velocity", lookups.ports[2]) for key in range(CUSTOMERS)]
        return all(status == 200 and body["windows"]["24h"]["count"] >= each for status, body in found)

    await lookups.until(all_counted, "all transactions are in the windows")
    done.set()
    await asyncio.gather(*asking)
    log = await lookups.log("bank.transactions")
    offsets = {
        key: [
            offset
            for offset, of in log[partition_for(key_bytes("customer_id", key), lookups.kafka.partitions)]
            if of == key_bytes("customer_id", key)
        ]
        for key in range(CUSTOMERS)
    }
    assert len(answers) > 200
    assert len({count for *_, count in answers}) > 10
    assert not [it for it in answers if it[3] != bisect_left(offsets[it[0]], it[2])][:3]
    assert seen.keys() <= {200, 503, 0}, seen
    assert seen[503] > 0, "a killed worker's keys are nobody's for a while"
    assert await asyncio.to_thread(lookups.workers.stop, third) == 0, lookups.workers.logs()


def audit(lookups: Lookups) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lookups.audit_file.read_text().splitlines()]


async def test_a_client_of_live_alerts_resumes_at_another_worker_after_its_last_event(lookups: Lookups) -> None:
    lookups.start()
    lookups.start()
    await lookups.ready(*lookups.ports)
    await lookups.people_and_accounts()

    async def stream(port: int, last: str | None, wanted: int) -> tuple[list[str], str]:
        """The ids of this number of alerts, and the id of the last event that was read."""
        headers = {} if last is None else {"Last-Event-ID": last}
        found: list[str] = []
        async with (
            asyncio.timeout(DEADLINE_S),
            lookups.session.get(f"http://127.0.0.1:{port}/v1/alerts/stream", headers=headers) as answer,
        ):
            assert answer.status == 200, await answer.text()
            assert answer.headers["content-type"] == "text/event-stream"
            event: str = last or ""
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("id: "):
                    event = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: "))["alert_id"])
                elif not line and len(found) >= wanted:
                    return found, event
        raise AssertionError("the stream ended")

    _, start = await stream(lookups.ports[0], None, 0)
    await lookups.send([lookups.move(number, number % CUSTOMERS, LARGE) for number in range(40)])
    once, event = await stream(lookups.ports[0], start, 7)
    rest: list[str] = []
    while len(rest) + 7 < 40:
        more, event = await stream(lookups.ports[1], event, 1)
        rest += more
    got = Counter(it for it in once + rest if it.startswith("threshold:"))
    recent = await lookups.found("/v1/alerts?limit=500")
    every = {it["alert"]["alert_id"] for it in recent["alerts"]}
    again, _ = await stream(lookups.ports[1], start, len(every))
    assert set(again) == every
    assert len(again) == len(every), "none came twice"
    assert set(got.values()) == {1}, "none came twice at the second worker"
    assert set(once + rest) <= every
    detected = [it["alert"]["detected_at"] for it in recent["alerts"]]
    assert detected == sorted(detected, reverse=True)
    async with lookups.session.get(f"http://127.0.0.1:{lookups.ports[0]}/metrics") as answer:
        assert "bankstream_api_streams 0.0" in await answer.text()
