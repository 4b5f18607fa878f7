"""Tests dead letters on a real broker: they are listed, shown, and sent again in order."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from app.config.settings import KafkaSettings
from app.engine.dead_letters import DeadLetter, dead_letter, encode_dead_letter
from app.engine.kafka import connection
from app.errors import PoisonRecordError
from app.local.stack.part import Part
from app.local.stack.stack import Stack
from app.operations.provision.steps import TOPICS
from tests.support.bank.cdc import COMMIT_US, CdcLog, Record
from tests.support.machine.stack import private_stack, settings_of
from tests.support.paths import PROJECT
from tests.support.streams.committed import all_committed

pytestmark = pytest.mark.integration

CUSTOMER = {"customer_id": 1, "name": "\x1b[31mAda"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with private_stack(Part.KAFKA, steps=(TOPICS,)) as running:
        yield running


@pytest.fixture(scope="module")
def letters(stack: Stack) -> dict[str, str]:
    """Four refused changes and later processed ones. Returns the names of the dead letters by their subjects."""
    return asyncio.run(_refuse(settings_of(stack, KafkaSettings)))


async def _refuse(kafka: KafkaSettings) -> dict[str, str]:
    people, moves = CdcLog("customers", "customer_id"), CdcLog("transactions", "account_id")
    overtaken = people.change("c", after=CUSTOMER)
    people.change("u", after=CUSTOMER | {"name": "Bo"})
    alone = people.change("c", after=CUSTOMER | {"customer_id": 2})
    unreadable = people.append(b'{"customer_id":3}', b"not json")
    move = moves.change("c", after={"transaction_id": 1, "account_id": 5})
    moves.change("c", after={"transaction_id": 2, "account_id": 5})
    named = {"overtaken": overtaken, "alone": alone, "unreadable": unreadable, "move": move}
    producer = AIOKafkaProducer(**connection(kafka))
    await producer.start()
    try:
        for record in (*people.records, *moves.records):
            await producer.send_and_wait(record.topic, record.value, record.key, 0)
        names = {}
        for name, record in named.items():
            value = encode_dead_letter(_letter(record))
            sent = await producer.send_and_wait("bank.dead-letters", value, record.key, 1)
            names[name] = f"1/{sent.offset}"
    finally:
        await producer.stop()
    return names


def _letter(record: Record) -> DeadLetter:
    headers = (("__debezium.oldkey", b'{"customer_id":9}'),) if record.offset == 2 else ()
    reason = "not_json" if record.value == b"not json" else "bad_row"
    return dead_letter(replace(record, headers=headers), PoisonRecordError("why", reason=reason), COMMIT_US)


def run(stack: Stack, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "app.cli", "dead-letters", *arguments]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **stack.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout or done.stderr


async def sent_again(kafka: KafkaSettings, topic: str) -> list[Any]:
    (found,) = (await all_committed(kafka, [TopicPartition(topic, 0)])).values()
    return [record for record in found if "bankstream.redriven-from" in dict(record.headers)]


def test_dead_letters_are_listed_with_counts_by_topic_and_reason(stack: Stack, letters: dict[str, str]) -> None:
    code, output = run(stack, "list", "--json")
    listed = json.loads(output)
    assert code == 0
    assert {letter["name"] for letter in listed["letters"]} == set(letters.values())
    assert {(row["topic"], row["reason"], row["count"]) for row in listed["counts"]} == {
        ("bank.public.customers", "bad_row", 2),
        ("bank.public.customers", "not_json", 1),
        ("bank.public.transactions", "bad_row", 1),
    }
    assert len(json.loads(run(stack, "list", "--reason", "not_json", "--json")[1])["letters"]) == 1
    assert letters["alone"] in run(stack, "list")[1]


def test_a_dead_letter_is_shown_with_its_bytes_and_without_terminal_escapes(
    stack: Stack, letters: dict[str, str]
) -> None:
    code, output = run(stack, "show", letters["overtaken"])
    assert code == 0
    assert "Ada" in output
    assert "\x1b" not in output
    assert run(stack, "show", "0/999")[0] == 1


def test_resent_records_keep_key_partition_bytes_and_headers_and_outdated_ones_are_not_sent(
    stack: Stack, letters: dict[str, str]
) -> None:
    kafka = settings_of(stack, KafkaSettings)
    code, output = run(stack, "redrive", "--topic", "bank.public.customers", "--json")
    result = json.loads(output)
    assert code == 1
    assert result["sent"] == [letters["alone"]]
    why = {held["name"]: held["why"] for held in result["held_back"]}
    assert why.keys() == {letters["overtaken"], letters["unreadable"]}
    assert "at offset 1" in why[letters["overtaken"]]
    assert "does not identify its row" in why[letters["unreadable"]]
    (again,) = asyncio.run(sent_again(kafka, "bank.public.customers"))
    headers = dict(again.headers)
    assert (again.key, json.loads(again.value)["after"]["customer_id"]) == (b'{"customer_id":2}', 2)
    assert headers["bankstream.redriven-from"] == b"bank.public.customers/0/2"
    assert headers["__debezium.oldkey"] == b'{"customer_id":9}'


def test_another_transaction_of_the_account_does_not_make_a_record_outdated(
    stack: Stack, letters: dict[str, str]
) -> None:
    code, output = run(stack, "redrive", letters["move"])
    assert (code, "1 sent again, 0 held back" in output) == (0, True)
    assert len(asyncio.run(sent_again(settings_of(stack, KafkaSettings), "bank.public.transactions"))) == 1


def test_nothing_is_sent_without_a_selection(stack: Stack, letters: dict[str, str]) -> None:
    assert letters
    assert run(stack, "redrive")[0] == 2
