"""Tests the velocity agent on a partition in memory: its outputs, its state, and the records that it refuses."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agents import control, metrics, velocity
from app.config.rules_file import load_rules
from app.config.topics import ALERTS, CONTROL, DEAD_LETTERS, TRANSACTIONS, VELOCITY
from app.domain.events import Event
from app.domain.records import AlertRecord, TableCommand, TransactionRecord, VelocityRecord, encode, key_bytes
from app.domain.times import format_us
from app.engine.batch_unit_of_work import Overlay, OverlayView
from app.engine.memory import EmittedRecord, MemoryPartition
from app.engine.partition_group import PartitionGroup, RecordHandler
from app.errors import PoisonRecordError
from app.native.library import load
from tables.truncations import TRUNCATIONS
from tables.velocity_histories import HISTORIES, TABLES, histories
from tests.support.streams.velocity import DAY_US, HOUR_US, MINUTE_US, SECOND_US, START_US, naive_windows, transaction

RULES = load_rules(None)
GROUP = PartitionGroup(
    app_id="test",
    name="by-customer",
    topics=(TRANSACTIONS.name, CONTROL.name),
    tables=(*TABLES, TRUNCATIONS),
    partitions=4,
    partitions_of=lambda _: 4,
    dead_letter_topic=DEAD_LETTERS.name,
)


@dataclass(frozen=True)
class Record:
    value: bytes | None
    key: bytes | None
    topic: str = TRANSACTIONS.name
    partition: int = 1
    offset: int = 0
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


class Agent:
    """A partition and its outputs."""

    def __init__(self, cache_bytes: int = velocity.CACHE_BYTES) -> None:
        self.partition = MemoryPartition(GROUP, 1)
        self.handlers: dict[str, RecordHandler] = {
            TRANSACTIONS.name: velocity.handler(RULES, load(), cache_bytes),
            CONTROL.name: control.handler({"transactions": velocity.truncate}),
        }

    def raw(self, *records: Record, now_us: int = START_US) -> list[EmittedRecord]:
        return self.partition.process(records, self.handlers, now_us=now_us)

    def send(self, *records: TransactionRecord, now_us: int = START_US) -> list[EmittedRecord]:
        return self.raw(
            *(Record(encode(record), key_bytes("customer_id", record.customer_id)) for record in records), now_us=now_us
        )

    def truncate(self, lsn: int, table: str = "transactions") -> list[EmittedRecord]:
        command = TableCommand("truncate", table, replace(transaction(1).source, lsn=lsn))
        return self.raw(Record(encode(command), None, topic=CONTROL.name))

    @property
    def stored(self) -> list[tuple[int, Event]]:
        table = OverlayView(HISTORIES, self.partition.store, Overlay(), [])
        return [(customer_id, event) for customer_id, history in histories(table) for event in history]


def alerts(outputs: Sequence[EmittedRecord]) -> list[AlertRecord]:
    return [msgspec.json.decode(it.value or b"", type=AlertRecord) for it in outputs if it.topic == ALERTS.name]


def velocities(outputs: Sequence[EmittedRecord]) -> list[VelocityRecord]:
    return [msgspec.json.decode(it.value or b"", type=VelocityRecord) for it in outputs if it.topic == VELOCITY.name]


def _bytes(output: EmittedRecord) -> tuple[str, int, bytes]:
    return output.topic, output.partition, output.value or b""


def probes_then(transaction_id: int, **changes: Any) -> list[TransactionRecord]:
    """Three probes a minute apart, and an amount after them."""
    probes = [transaction(number, number * MINUTE_US, "1.00") for number in (1, 2, 3)]
    return [*probes, transaction(transaction_id, 10 * MINUTE_US, "120.00", **changes)]


def test_created_and_updated_give_windows_keyed_by_customer_and_deleted_gives_none() -> None:
    agent = Agent()
    outputs = agent.send(
        transaction(1, status="pending"), transaction(1, op="updated", lsn=200), transaction(1, op="deleted", lsn=300)
    )
    assert [(it.topic, it.key) for it in outputs] == [(VELOCITY.name, b'{"customer_id":7}')] * 2
    assert [it.source.lsn for it in velocities(outputs)] == [100, 200]
    assert agent.stored == []


def test_an_alert_has_its_explanation_conditions_and_evidence() -> None:
    outputs = Agent().send(*probes_then(9, offset=40), now_us=START_US + HOUR_US)
    (alert,) = alerts(outputs)
    assert (alert.alert_id, alert.rule, alert.severity) == ("card_testing:7-31-9", "card_testing", "critical")
    assert alert.detected_at == format_us(START_US + HOUR_US)
    assert alert.event_time == format_us(START_US + 10 * MINUTE_US)
    assert [(it.topic, it.partition, it.offset) for it in alert.evidence] == [
        ("bank.public.transactions", 2, offset) for offset in (40, 3, 2, 1)
    ]
    assert alert.explanation.startswith("3 payments of at most 2.00 EUR within five minutes")
    assert alert.features["conditions"] == [
        {"name": "amount", "value": "120.00", "comparison": ">=", "threshold": "100.00", "holds": True, "would_not_fire": "99.99"},
        {"name": "probes", "value": "3", "comparison": ">=", "threshold": "3", "holds": True, "would_not_fire": "2"},
    ]  # fmt: skip
    others = alert.features["other_rules"]
    assert {name: other["outcome"] for name, other in others.items()} == {
        rule.id: "not_fired" for rule in RULES.rules if rule.id != "card_testing"
    }
    assert others["velocity_count"]["conditions"][0] == {
        "name": "count 1m", "value": "1", "comparison": ">=", "threshold": "10", "holds": False, "would_not_fire": "9",
    }  # fmt: skip


def test_no_rule_alerts_twice_on_a_transaction_however_often_it_changes() -> None:
    agent = Agent()
    assert len(alerts(agent.send(*probes_then(9, status="pending")))) == 1
    big = probes_then(9)[-1]
    changes = [
        replace(big, op="updated", source=replace(big.source, lsn=1000)),
        replace(big, op="updated", amount="130.00", source=replace(big.source, lsn=1001)),
        replace(big, op="deleted", source=replace(big.source, lsn=1002)),
        replace(big, op="created", source=replace(big.source, lsn=1003)),
        replace(big, op="updated", status="reversed", source=replace(big.source, lsn=1004)),
        replace(big, op="updated", status="posted", source=replace(big.source, lsn=1005)),
        replace(
            big, op="updated", booked_at=format_us(START_US + 11 * MINUTE_US), source=replace(big.source, lsn=1006)
        ),
    ]
    for change in changes:
        assert alerts(agent.send(change)) == []
        agent.partition._memory.clear()


def test_an_update_can_raise_an_alert_that_the_creation_did_not() -> None:
    agent = Agent()
    *probes, big = probes_then(9, status="declined")
    assert alerts(agent.send(*probes, big)) == []
    posted = replace(big, op="updated", status="posted", source=replace(big.source, lsn=1000))
    assert [alert.alert_id for alert in alerts(agent.send(posted))] == ["card_testing:7-31-9"]


@pytest.mark.parametrize("status", ["declined", "reversed"])
def test_transactions_that_move_no_money_raise_no_alert(status: str) -> None:
    assert alerts(Agent().send(*probes_then(9, status=status))) == []
    assert alerts(Agent().send(transaction(1, amount="50000.00", status=status))) == []


def test_rules_are_not_evaluated_for_updates_of_expired_transactions() -> None:
    """An alert may have been raised before the transaction expired."""
    assert alerts(Agent().send(transaction(1, amount="50000.00", op="updated"))) == []


def test_a_truncate_deletes_older_events_and_keeps_the_fired_alerts() -> None:
    agent = Agent()
    agent.send(*probes_then(9), transaction(20, 11 * MINUTE_US))
    agent.truncate(lsn=1000)
    assert len(agent.stored) == 2, "the one that fired, and the one that is younger"
    (record,) = velocities(agent.send(transaction(21, 12 * MINUTE_US)))
    assert record.windows["30d"].count == 2
    again = probes_then(9, lsn=3000)[-1]
    assert alerts(agent.send(again)) == []


def test_an_event_older_than_a_truncate_is_not_stored_when_it_arrives_later() -> None:
    agent = Agent()
    agent.truncate(lsn=1000)
    agent.truncate(lsn=500)
    agent.truncate(lsn=9_000, table="customers")
    older, younger = agent.send(transaction(1)), agent.send(transaction(20))
    assert (len(velocities(older)), len(velocities(younger)), len(agent.stored)) == (1, 1, 1)
    assert velocities(younger)[0].windows["1m"].count == 1


def test_a_stored_event_is_deleted_when_a_later_update_is_older_than_a_truncate() -> None:
    agent = Agent()
    agent.truncate(lsn=1000)
    kept = transaction(20)
    moved = transaction(20, MINUTE_US, op="updated")
    agent.send(kept, replace(moved, source=replace(moved.source, lsn=None)))
    assert agent.stored == []


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (None, b'{"customer_id":7}', "no_value"),
        (b"{", b'{"customer_id":7}', "not_a_transaction"),
        (b"\xff", b'{"customer_id":7}', "not_a_transaction"),
        (encode(transaction(1)).replace(b"EUR", b"\xff"), b'{"customer_id":7}', "not_a_transaction"),
        (encode(transaction(1)).replace(b'"EUR"}', b"[" * 5_000), b'{"customer_id":7}', "not_a_transaction"),
        (b'{"op":"renamed"}', b'{"customer_id":7}', "not_a_transaction"),
        (encode(transaction(1)), b'{"customer_id":8}', "key_mismatch"),
        (encode(transaction(1)), None, "key_mismatch"),
        (encode(transaction(1, amount="NaN")), b'{"customer_id":7}', "bad_transaction"),
        (encode(replace(transaction(1), booked_at="infinity")), b'{"customer_id":7}', "bad_transaction"),
        (encode(transaction(1 << 64)), b'{"customer_id":7}', "bad_transaction"),
        (encode(transaction(1, lsn=1 << 64)), b'{"customer_id":7}', "bad_transaction"),
        (encode(transaction(1, lsn=-1)), b'{"customer_id":7}', "bad_transaction"),
        (encode(transaction(1, amount="-1.00")), b'{"customer_id":7}', "bad_transaction"),
        (encode(transaction(1, customer_id=1 << 64)), b'{"customer_id":18446744073709551616}', "bad_transaction"),
    ],
)
def test_a_record_that_is_no_transaction_becomes_a_dead_letter_without_side_effects(
    value: bytes | None, key: bytes | None, reason: str
) -> None:
    agent = Agent()
    agent.send(transaction(5))
    outputs = agent.raw(Record(value, key))
    assert [it.topic for it in outputs] == [DEAD_LETTERS.name]
    assert [(letter.reason, letter.stage) for letter in agent.partition.dead_letters] == [(reason, "decode")]
    assert velocities(agent.send(transaction(6)))[0].windows["1m"].count == 2


def test_a_record_that_is_refused_leaves_histories_in_memory() -> None:
    agent = Agent()
    agent.send(transaction(5))
    (histories,) = agent.partition._memory.values()
    agent.raw(Record(b"{", b'{"customer_id":7}'), Record(b"{", b'{"customer_id":8}'), Record(None, None))
    assert list(agent.partition._memory.values()) == [histories]
    assert len(histories.take(7)) == 1


def test_a_history_whose_change_was_not_stored_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent()
    agent.send(transaction(5))

    def refused(*_: object) -> None:
        raise PoisonRecordError("refused after the history was changed", reason="test")

    with monkeypatch.context() as patch:
        patch.setattr(velocity._Handler, "_conclude", refused)
        assert [it.topic for it in agent.send(transaction(6))] == [DEAD_LETTERS.name]
    assert velocities(agent.send(transaction(7)))[0].windows["1m"].count == 2


def test_expired_events_leave_the_table_without_a_word_to_the_changelog() -> None:
    agent = Agent()
    agent.send(transaction(1), transaction(2, DAY_US))
    agent.send(transaction(3, 31 * DAY_US + 1))
    assert len(agent.stored) == 2


def test_every_outcome_of_a_rule_is_counted() -> None:
    def counts() -> Counter[tuple[str, str]]:
        samples = next(iter(metrics.RULES.collect())).samples
        return Counter(
            {(it.labels["rule"], it.labels["outcome"]): int(it.value) for it in samples if it.name.endswith("_total")}
        )

    agent, before = Agent(), counts()
    agent.send(transaction(1, amount="700.00"), transaction(2, 1, amount="10000.00"))
    assert counts() - before == Counter(
        {
            **{(rule.id, "not_fired"): 2 for rule in RULES.rules if rule.id not in ("large_amount", "threshold")},
            ("large_amount", "insufficient_history"): 2,
            ("threshold", "not_fired"): 1,
            ("threshold", "fired"): 1,
        }
    )


def test_outputs_do_not_depend_on_the_cache_or_the_batches() -> None:
    """Evicted customers, late events and corrections give the same outputs as with all customers in memory."""
    rnd = random.Random(7)
    records = [
        transaction(
            rnd.randrange(1, 60), rnd.choice([MINUTE_US // 4, HOUR_US, 2 * DAY_US]) * rnd.randrange(20),
            rnd.choice(["1.00", "0.50", "150.00", "9500.00", "12000.00"]),
            op=rnd.choice(["created", "updated", "deleted"]), status=rnd.choice(["pending", "posted", "declined"]),
            lsn=number, offset=number, customer_id=rnd.randrange(3), commit_us=60 * DAY_US,
        )
        for number in range(800)
    ]  # fmt: skip
    at_once, one_by_one = Agent(), Agent(cache_bytes=0)
    together = at_once.send(*records)
    apart = [output for record in records for output in one_by_one.send(record)]
    assert sorted(map(_bytes, together)) == sorted(map(_bytes, apart))
    assert at_once.stored == one_by_one.stored
    assert len(alerts(together)) > 10
    assert max(Counter(alert.alert_id for alert in alerts(together)).values()) == 1


def test_a_customers_windows_hold_no_other_customers_transactions() -> None:
    agent = Agent()
    records = [transaction(number, number * SECOND_US, customer_id=number % 2 - 1) for number in range(20)]
    outputs = velocities(agent.send(*records))
    for record in records:
        mine = [it for it in records if it.customer_id == record.customer_id and it.booked_at <= record.booked_at]
        (found,) = [it for it in outputs if it.transaction_id == record.transaction_id]
        assert found.windows == naive_windows(mine, record)
