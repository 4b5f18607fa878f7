"""Tests the agents of customers, accounts and transactions: the source's changes give the documented records."""

import re
from typing import Any

import pytest

from app.domain.times import format_us
from tests.support.bank.cdc import COMMIT_US, CdcLog, Record
from tests.support.streams.topology_driver import TopologyDriver

CUSTOMER = {"customer_id": 1, "name": "Ada", "city": "London", "updated_at": "2026-03-02T09:00:00Z"}
ACCOUNT = {
    "account_id": 5,
    "customer_id": 1,
    "type": "checking",
    "currency": "EUR",
    "status": "active",
    "balance": "0.00",
}


def transaction(key: int = 7, **changes: Any) -> dict[str, Any]:
    row = {
        "transaction_id": key, "account_id": 5, "type": "debit", "amount": "12.30", "currency": "EUR", "status": "posted",
        "channel": "card", "merchant_id": "M1", "merchant_category": "5411", "counterparty_account": None, "country_code": "DE",
        "latitude": "48.137154", "longitude": "11.576124", "device_id": "d1", "description": "coffee",
        "booked_at": "2026-03-02T10:00:00+01:00", "created_at": "2026-03-02T09:00:00.5Z",
    }  # fmt: skip
    return row | changes


def customers() -> CdcLog:
    return CdcLog("customers", "customer_id")


def accounts() -> CdcLog:
    return CdcLog("accounts", "account_id")


def transactions() -> CdcLog:
    return CdcLog("transactions", "account_id", lsn=5_000)


def test_a_customer_opens_changes_and_closes() -> None:
    streams, log = TopologyDriver(), customers()
    created = log.change("c", after=CUSTOMER)
    streams.take(
        created,
        log.change("u", before=CUSTOMER, after=CUSTOMER | {"city": "Paris"}),
        log.change("u", after=CUSTOMER | {"city": "Paris", "updated_at": "2026-03-02T09:05:00Z"}),
        log.change("d", before=CUSTOMER | {"city": "Paris"}),
        log.append(b'{"customer_id":1}', None),
    )
    found = streams.values("bank.scd2.customers")
    assert [(r["op"], r["reason"]) for r in found] == [
        ("open", "created"), ("close", "superseded"), ("open", "updated"), ("close", "deleted"),
    ]  # fmt: skip
    first, second, third, fourth = found
    assert first["version_id"] == second["version_id"] != third["version_id"] == fourth["version_id"]
    assert first["attributes"] == CUSTOMER
    assert third["changed"] == ["city"]
    assert (first["valid_to"], second["valid_to"]) == (None, third["valid_from"])
    assert first["source"] == {
        "topic": "bank.public.customers", "partition": 0, "offset": 0, "lsn": 110, "tx_id": 7,
        "commit_time": format_us(COMMIT_US + 1_000_000),
    }  # fmt: skip
    assert [output.key for output in streams.outputs] == [b'{"customer_id":1}'] * 4


def test_a_replay_of_the_whole_log_adds_nothing() -> None:
    streams, people, money, moves = TopologyDriver(), customers(), accounts(), transactions()
    records = [
        people.change("c", after=CUSTOMER),
        money.change("c", after=ACCOUNT),
        moves.change("c", after=transaction(status="pending")),
        moves.change("u", after=transaction()),
        moves.change("c", after=transaction(8)),
        moves.change("d", before=transaction(8)),
        people.change("d", before=CUSTOMER),
    ]
    first = streams.take(*records)
    assert len(first) > 8
    again = streams.take(*(log.again(r) for r in records for log in (people, money, moves) if r.topic == log.topic))
    assert again == []
    assert streams.reasons == []


def test_a_balance_changes_state_and_adds_no_version() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        money.change("c", after=ACCOUNT),
        money.change("u", before=ACCOUNT, after=ACCOUNT | {"balance": "99.00"}),
        moves.change("c", after=transaction()),
    )
    assert len(streams.values("bank.scd2.accounts")) == 1
    (joined,) = streams.values("bank.transactions")
    assert joined["account"] == {"type": "checking", "currency": "EUR", "status": "active", "balance": "99.00"}


def test_which_columns_are_tracked_is_a_setting() -> None:
    streams, money = TopologyDriver(untracked_columns="status"), accounts()
    streams.take(money.change("c", after=ACCOUNT), money.change("u", after=ACCOUNT | {"balance": "99.00"}))
    streams.take(money.change("u", after=ACCOUNT | {"balance": "99.00", "status": "closed"}))
    assert [r["reason"] for r in streams.values("bank.scd2.accounts")] == ["created", "superseded", "updated"]


def test_a_transaction_is_joined_to_its_account_and_keyed_by_its_customer() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(money.change("c", after=ACCOUNT), moves.change("c", after=transaction()))
    (joined,) = streams.values("bank.transactions")
    assert (joined["op"], joined["customer_id"], joined["amount"]) == ("created", 1, "12.30")
    assert (joined["booked_at"], joined["created_at"]) == ("2026-03-02T09:00:00.000000Z", "2026-03-02T09:00:00.500000Z")
    assert joined["source"]["lsn"] == 5010
    assert [output.key for output in streams.outputs if output.topic == "bank.transactions"] == [b'{"customer_id":1}']


def test_a_transaction_without_its_account_waits_with_its_later_changes() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        moves.change("c", after=transaction(7)),
        moves.change("u", after=transaction(7, status="reversed")),
        moves.change("c", after=transaction(8)),
        moves.change("d", before=transaction(8)),
    )
    assert streams.values("bank.transactions") == []
    streams.take(money.change("c", after=ACCOUNT))
    assert [(r["transaction_id"], r["op"], r["source"]["offset"]) for r in streams.values("bank.transactions")] == [
        (7, "created", 0), (7, "updated", 1), (8, "created", 2), (8, "deleted", 3),
    ]  # fmt: skip
    assert streams.take(money.change("u", after=ACCOUNT | {"status": "frozen"}))[-1].topic == "bank.scd2.accounts"


def test_waiting_transactions_are_limited_in_number() -> None:
    streams, money, moves = TopologyDriver(waiting_max_records=2), accounts(), transactions()
    streams.take(*(moves.change("c", after=transaction(key)) for key in (1, 2, 3)))
    assert streams.reasons == ["unknown_account"]
    streams.take(money.change("c", after=ACCOUNT))
    assert [r["transaction_id"] for r in streams.values("bank.transactions")] == [1, 2]
    streams.take(*(moves.change("c", after=transaction(key, account_id=6)) for key in (4, 5, 6)))
    assert streams.reasons == ["unknown_account"] * 2, "the two places were free again"


def test_waiting_transactions_are_limited_in_age() -> None:
    streams, money, moves = TopologyDriver(waiting_max_age_s=60), accounts(), transactions()
    streams.take(moves.change("c", after=transaction(1)), moves.change("c", after=transaction(2)))
    streams.punctuate(moves.commit_us + 30_000_000)
    assert streams.reasons == []
    streams.punctuate(moves.commit_us + 60_000_000)
    assert streams.reasons == ["unknown_account"], "the first is late, the second is not"
    streams.take(money.change("c", after=ACCOUNT))
    assert [r["transaction_id"] for r in streams.values("bank.transactions")] == [2]
    (letter,) = streams.values("bank.dead-letters")
    assert (letter["offset"], letter["stage"]) == (0, "join")


def test_a_transaction_of_a_deleted_account_is_joined_to_its_last_state() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        money.change("c", after=ACCOUNT), money.change("d", before=ACCOUNT), moves.change("c", after=transaction())
    )
    assert [r["customer_id"] for r in streams.values("bank.transactions")] == [1]


def test_an_account_that_changes_hands_moves_its_later_changes_to_the_new_customer() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        money.change("c", after=ACCOUNT),
        moves.change("c", after=transaction(status="pending")),
        money.change("u", after=ACCOUNT | {"customer_id": 2}),
        moves.change("u", before=transaction(status="pending"), after=transaction()),
    )
    assert [(r["op"], r["customer_id"], r["status"]) for r in streams.values("bank.transactions")] == [
        ("created", 1, "pending"), ("deleted", 1, "pending"), ("created", 2, "posted"),
    ]  # fmt: skip


def test_a_resnapshot_forwards_only_changed_rows() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        money.change("c", after=ACCOUNT),
        moves.change("c", after=transaction(1)),
        moves.change("c", after=transaction(2)),
    )
    streams.take(moves.change("r", after=transaction(1)), moves.change("r", after=transaction(2, status="reversed")))
    assert [(r["transaction_id"], r["op"]) for r in streams.values("bank.transactions")] == [
        (1, "created"), (2, "created"), (2, "updated"),
    ]  # fmt: skip


def test_a_transaction_open_at_a_snapshot_is_forwarded_after_it() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        money.change("c", after=ACCOUNT),
        moves.change("r", after=transaction(status="pending"), lsn=9_000),
        moves.change("u", after=transaction(), lsn=8_900),
        moves.change("r", after=transaction(status="pending"), lsn=9_000),
    )
    assert [(r["op"], r["status"]) for r in streams.values("bank.transactions")] == [
        ("created", "pending"), ("updated", "posted"),
    ]  # fmt: skip


def test_a_truncate_closes_earlier_rows_and_leaves_later_ones() -> None:
    streams, log = TopologyDriver(), customers()
    streams.take(log.change("c", after=CUSTOMER), log.change("c", after=CUSTOMER | {"customer_id": 2}))
    truncate = log.change("t")
    streams.take(log.change("c", after=CUSTOMER | {"customer_id": 3}), truncate)
    assert len(streams.values("bank.scd2.customers")) == 3, "older changes may still come"
    streams.pass_barriers()
    found = streams.values("bank.scd2.customers")
    assert [(r["key"]["customer_id"], r["reason"]) for r in found[3:]] == [(1, "truncated"), (2, "truncated")]
    (order,) = streams.values("bank.control")
    assert (order["table"], order["source"]["lsn"]) == ("customers", 130)


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"[" * 100_000, "yesterday"])
def test_an_unreadable_table_command_becomes_a_dead_letter_in_every_group(damage: bytes | str) -> None:
    streams = TopologyDriver()
    streams.take(customers().change("t"))
    (order,) = (output for output in streams.outputs if output.topic == "bank.control")
    assert order.value is not None
    if isinstance(damage, str):
        damage = re.sub(rb'(?<="commit_time":")[^"]*', damage.encode(), order.value)
    streams.take(Record("bank.control", damage, order.key, 0, 1))
    assert streams.reasons == ["not_an_order"] * len(streams.members)
    assert not streams.pass_barriers(), "nobody obeys it"


def test_a_change_that_is_processed_after_a_later_truncate_is_deleted_too() -> None:
    streams, log, money, moves = TopologyDriver(), customers(), accounts(), transactions()
    late = log.change("c", after=CUSTOMER)
    late_move = moves.change("c", after=transaction())
    streams.take(log.change("t"), moves.change("t"), late, money.change("c", after=ACCOUNT), late_move)
    streams.pass_barriers()
    assert [r["reason"] for r in streams.values("bank.scd2.customers")] == ["created", "truncated"]
    assert [r["op"] for r in streams.values("bank.transactions")] == ["created", "deleted"]


def test_replays_of_truncated_transactions_have_no_effect() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    first = moves.change("c", after=transaction())
    streams.take(money.change("c", after=ACCOUNT), first, moves.change("t"))
    assert streams.take(moves.again(first)) == []


def test_an_unreadable_record_becomes_a_dead_letter_and_others_are_processed() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(
        money.change("c", after=ACCOUNT),
        moves.append(b'{"account_id":5}', b"not json"),
        moves.append(b'{"id":5}', moves.change("c", after=transaction(9)).value),
        moves.change("c", after=transaction(1, amount="NaN")),
        moves.change("c", after=transaction(2, amount="-5.00")),
        moves.change("c", after=transaction(3, amount=12.5)),
        moves.change("c", after=transaction(4, booked_at="infinity")),
        moves.change("c", after=transaction(5, type="transfer")),
        moves.change("c", after=transaction(6)),
    )
    assert streams.reasons == ["not_json", "no_key", "bad_amount", "bad_amount", "bad_row", "bad_time", "bad_row"]
    assert [r["transaction_id"] for r in streams.values("bank.transactions")] == [6]
    assert "decimal.handling.mode=string" in streams.values("bank.dead-letters")[4]["message"]


def test_a_delete_without_before_image_says_what_to_set() -> None:
    streams, money, moves = TopologyDriver(), accounts(), transactions()
    streams.take(money.change("c", after=ACCOUNT), moves.change("c", after=transaction()))
    bare = moves.change("d", before=transaction())
    assert bare.value is not None
    start, end = bare.value.index(b'"before":'), bare.value.index(b'"after":')
    streams.take(moves.append(bare.key, bare.value[:start] + b'"before":null,' + bare.value[end:]))
    assert streams.reasons == ["no_row"]
    assert "REPLICA IDENTITY FULL" in streams.values("bank.dead-letters")[0]["message"]
