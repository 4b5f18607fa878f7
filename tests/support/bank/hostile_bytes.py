"""Generates random transaction records, valid and invalid, as bytes, to compare two decoders of them.

Records are built from bytes and not from values, because a decoder sees the notation of a value.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec
from msgspec.structs import replace

from app.domain.records import TransactionRecord, encode
from app.domain.times import format_us
from tests.support.bank.cdc import COMMIT_US, Record
from tests.support.streams.velocity import START_US, transaction

DAY_US: Final = 86_400_000_000
_LARGE: Final = b"9" * 18

ODD: Final[Sequence[bytes]] = (
    b"null", b"true", b"false", b"0", b"-0", b"1", b"-1", b"01", b"007", b"1.0", b"1e2", b"1E+400", b"1e-400", b"-1.5e3", b"0.1", b"1.",
    b".5", b"-", b"+1", b"0x1", b"NaN", b"Infinity", b"nul", b"", _LARGE, b"9" * 19, b"-" + _LARGE, b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"1" * 400, b"1" * 5_000, b'""', b'"x"', b'"1"', b'"-0"',
    b'"12.50"', b'"a\\"b"', b'"\\/"', b'"\\n"', b'"\\b\\f\\r\\t"', b'"\\u0041"', b'"\\u00e9"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\x"',
    b'"\\', b'"open', b'"\x7f"', b'"\t"', b'"\n"', b'"\x00"', b'"\x1f"', '"Zürich"'.encode(), '"\u2028\u2029"'.encode(),
    '"\U0001f600"'.encode(), b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xc3', b"{}", b"[]",
    b'{"a":1}', b'{"a":1,"a":2}', b'[1,"2",null,true,{"x":[]}]', b"[1,]", b'{"a":}', b'{"a"}', b"[1 ,2]", b'{ "a":1}',
    b"[" * 12 + b"]" * 12, b"[" * 20 + b"]" * 20, b"[" * 1_100 + b"]" * 1_100, b'{"a":' * 15 + b"1" + b"}" * 15,
    b'"__debezium_unavailable_value"', b'"__debezium_unavailable_value "', b'"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="',
    b'["__debezium_unavailable_value"]', b'{"__debezium_unavailable_value":"__debezium_unavailable_value"}',
    b'"\\u005f_debezium_unavailable_value"', b'"' + b"x" * 300 + b'"', b'"' + b"\xc3\xa9" * 70_000 + b'"',
)  # fmt: skip
"""Unexpected values, valid JSON or not."""

INSTANTS: Final = (
    "2026-03-02T24:00:00.000000Z", "2026-03-02T24:00:00.000001Z", "2026-02-29T09:00:00.000000Z", "2024-02-29T09:00:00.000000Z",
    "1900-02-29T09:00:00.000000Z", "2000-02-29T09:00:00.000000Z", "2026-03-02T09:00:60.000000Z", "2026-03-02T09:60:00.000000Z",
    "0000-03-02T09:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T24:00:00.000000Z",
    "2026-04-31T09:00:00.000000Z", "2026-13-01T09:00:00.000000Z", "2026-00-01T09:00:00.000000Z", "2026-01-00T09:00:00.000000Z",
    "2026-03-02T09:00:00Z", "2026-03-02T09:00:00.1Z", "2026-03-02T09:00:00.1234567Z", "2026-03-02T09:00:00+00:00",
    "2026-03-02T09:00:00.000000+01:00", "2026-03-02T09:00:00.00000+01", "2026-03-02T09:00:00,000000Z", "2026-03-02t09:00:00.000000z",
    "2026-03-02 09:00:00.000000Z", "2026-W10-1T09:00:00.000000Z", "2026-03-02T09:00:00.000000", "2026-03-02", "20260302T090000.000000Z",
    "2026-03-02T09:00:00.00000 Z", "2026-03-02T09.00.00.000000Z", "2026-03-02T 9:00:00.000000Z", "+026-03-02T09:00:00.000000Z", "infinity",
    "\uff12026-03-02T09:00:00.000000Z", "2026-03-02T09:00:00.000-01Z", "1969-12-31T23:59:59.999999Z",
)  # fmt: skip
AMOUNTS: Final = (
    "0.00", "0.01", "00.01", "1", "1.5", "1.000", "1.234", "-1.00", "+1.00", " 1.00", "1.00 ", ".50", "1.", "1e2", "1_0.00",
    "\u0663.\u0660\u0660", "NaN", "9999999999999999.99", "10000000000000000.00", "99999999999999999.99",
    "01234567890123456.78", "1234567890123456.78", "1,00", "1..00", "-0.00", "",
)  # fmt: skip
COORDINATES: Final = (
    "-0.0", "1.5", "12.345678", "1234.5", "1.", ".5", "1", "-1", "+1.0", "1e3", "1.5e3", "nan", "inf", "1.1234567890123456789",
    "1.123456789012345678", "--1.0", "\u0661.\u0660", "999.9", "",
)  # fmt: skip
KEYS: Final = (
    None, b"", b"{}", b"null", b'{"account_id": 5}', b'{"account_id":05}', b'{"account_id":-0}', b'{"account_id":"5"}',
    b'{"account_id":5 }',
    b'{"account_id":5,"x":1}', b'{"account_id":6}', b'{"account_id":5.0}', b'{"account_id":null}', b'{"customer_id":1}', b"\x00\x01",
    b'{"account_id":9223372036854775808}', b'{"schema":null,"payload":{"account_id":5}}', b'{"account_id":1_0}', b'{"account_id":5}\n',
    b'{"account_id":\xd9\xa5}', b'{"account_id":+5}',
)  # fmt: skip


def odd(rnd: Random) -> bytes:
    """Any value, or bytes that are no value."""
    found = rnd.choice(ODD)
    return found if len(found) < 1_000 or rnd.random() < 0.1 else b"null"


def mutated(rnd: Random, raw: bytes) -> bytes:
    """Changes one to three bytes or slices."""
    for _ in range(rnd.choice((1, 1, 1, 2, 3))):
        at = rnd.randrange(len(raw) + 1)
        to = min(len(raw), at + rnd.choice((1, 1, 1, 2, 5, 30)))
        other = rnd.randrange(len(raw) + 1)
        raw = rnd.choice((
            raw[:at] + bytes([rnd.randrange(256)]) + raw[to:],
            raw[:at] + raw[at:to].translate(_FLIPPED[rnd.randrange(8)]) + raw[to:],
            raw[:at] + raw[to:],
            raw[:at] + rnd.choice((b" ", b"\n", b'"', b",", b":", b"{", b"}", b"[", b"]", b"\\", b"0", b"-", b".", b"e", b"\x00", b"\xc3"))
            + raw[at:],
            raw[:to] + raw[at:to] + raw[to:],
            raw[:other] + raw[at:to] + raw[other:],
            raw[:at],
            raw[at:],
        ))  # fmt: skip
    return raw


_FLIPPED: Final = [bytes(byte ^ 1 << bit for byte in range(256)) for bit in range(8)]


def _text(text: str) -> bytes:
    return b'"' + text.encode() + b'"'


def _object(rnd: Random, fields: list[tuple[bytes, bytes]], oddity: float) -> bytes:
    """An object of names (with their quotes) and values. Some have another order, duplicates, missing or escaped names, or spaces."""
    if fields and rnd.random() < oddity:
        kind, at = rnd.randrange(8), rnd.randrange(len(fields))
        if kind == 0:
            rnd.shuffle(fields)
        elif kind == 1:
            fields.insert(rnd.randrange(len(fields)), fields[at])
        elif kind == 2:
            fields.insert(rnd.randrange(len(fields)), (fields[at][0], odd(rnd)))
        elif kind == 3:
            del fields[at]
        elif kind == 4:
            name = fields[at][0]
            fields[at] = (b'"\\u%04x' % name[1] + name[2:], fields[at][1])
        elif kind == 5:
            name, value = fields[at]
            fields[at] = rnd.choice(
                ((b" " + name, value), (name + b" ", value), (name, b" " + value), (name, value + b"\r\n\t "))
            )
        elif kind == 6:
            fields.insert(
                at,
                (
                    rnd.choice((b'"extra"', '"größe"'.encode(), b'""', b'"a\\nb"', b'"\x7f"', b'"\xff"', odd(rnd))),
                    odd(rnd),
                ),
            )
        else:
            fields[at] = (odd(rnd), fields[at][1])
    return b"{" + b",".join(name + b":" + value for name, value in fields) + b"}"


class Changes:
    """One partition of the transactions' topic: few transactions on few accounts, with table commands and account rows between them.

    `oddity` is the probability that a part of a record is unusual, `mutation` that the finished record is damaged.
    """

    def __init__(self, rnd: Random, oddity: float, mutation: float) -> None:
        self._rnd, self._oddity, self._mutation = rnd, oddity, mutation
        self._offset = self._accounts = 0
        self._lsn, self._commit_us = 1_000, COMMIT_US
        self._sent: list[Record] = []
        self._ids = rnd.choice((4, 1_000))

    def next(self) -> Record:
        """The next record, usually of a transaction, sometimes of an account."""
        rnd = self._rnd
        self._lsn += rnd.randrange(3)
        self._commit_us += rnd.choice((0, 1_000, 1_000_000, 3_600_000_000, DAY_US))
        chance = rnd.random()
        if chance < 0.06:
            return self.account(rnd.choice((5, 6)))
        if chance < 0.12 and self._sent:
            return self._append(self._sent[rnd.randrange(len(self._sent))])
        if chance < 0.13:
            return self._append(Record("bank.public.transactions", self._envelope(b"t", b"null", b"null"), None))
        account = b"5" if rnd.random() < 0.7 else rnd.choice((b"6", b"6", b"6", b"9", b"-5"))
        key: bytes | None = b'{"account_id":%b}' % account
        if self._is_odd(0.3):
            key = rnd.choice(KEYS)
        operation = rnd.choice((b"c", b"c", b"c", b"c", b"u", b"u", b"u", b"u", b"d", b"r"))
        row = self._row(account)
        before = rnd.choice((b"null", self._row(account)))
        if operation == b"d":
            before, row = row, b"null"
        value: bytes | None = self._envelope(operation, before, row)
        if rnd.random() < self._mutation:
            value = mutated(rnd, value or b"")
        if rnd.random() < self._mutation / 20:
            value = rnd.choice((None, b"", b"null", b"{}", b"\xef\xbb\xbf" + (value or b"")))
        headers: tuple[tuple[str, bytes], ...] = ()
        if self._is_odd(0.2):
            headers = (("__debezium.oldkey", b'{"transaction_id":3}'), ("__debezium.newkey", b"x"))
        return self._append(Record("bank.public.transactions", value, key, headers=headers))

    def ordinary(self, operation: bytes, transaction_id: int) -> Record:
        """An insert that is pending, or an update that posts it."""
        status = b"pending" if operation == b"c" else b"posted"
        row = b"""{"transaction_id":%d,"account_id":5,"type":"debit","amount":"3.00","currency":"EUR","status":"%b",\
"booked_at":"2026-03-02T09:00:0%d.000000Z","created_at":null}""" % (transaction_id, status, transaction_id)
        self._lsn += 100
        return self._append(
            Record("bank.public.transactions", self._envelope(operation, b"null", row), b'{"account_id":5}')
        )

    def whole(self, operation: bytes) -> Record:
        """A change of transaction 7 with a value in every column."""
        row = (
            b"""{"transaction_id":7,"account_id":5,"type":"debit","amount":"3.00","currency":"EUR","status":"declined",\
"channel":"card","merchant_id":"M1","merchant_category":"5411","counterparty_account":"DE1","country_code":"DE","latitude":"52.520000",\
"longitude":"13.400000","device_id":"d-1","description":"Lunch","booked_at":"2026-03-02T09:00:00.000000Z",\
"created_at":"2026-03-02T09:00:00.000000Z","other":%d}"""
            % self._lsn
        )
        self._lsn += 100
        return self._append(
            Record("bank.public.transactions", self._envelope(operation, row, row), b'{"account_id":5}')
        )

    def account(self, account_id: int) -> Record:
        """A change of an account's row."""
        rnd = self._rnd
        fields = [
            (b'"account_id"', b"%d" % account_id),
            (b'"customer_id"', rnd.choice((b"1", b"1", b"1", b"2", b"-3"))),
            (b'"type"', b'"checking"'),
            (b'"balance"', rnd.choice((b'"12.30"', b'"12.40"'))),
        ]
        if self._is_odd(1):
            fields.append((rnd.choice((b'"note"', '"größe"'.encode(), b'"customer_id"', b'"a\\"b"')), odd(rnd)))
        self._accounts += 1
        value = self._envelope(
            rnd.choice((b"c", b"u", b"u", b"u", b"d")), b"null", _object(rnd, fields, self._oddity / 4), b'"accounts"'
        )
        if value.startswith(b'{"before":null,"after":') and b'"op":"d"' in value:
            value = value.replace(b'{"before":null,"after":', b'{"after":null,"before":', 1)
        return Record("bank.public.accounts", value, b'{"account_id":%d}' % account_id, offset=self._accounts)

    def _is_odd(self, weight: float) -> bool:
        return self._rnd.random() < self._oddity * weight

    def _append(self, record: Record) -> Record:
        self._offset += 1
        again = Record(
            record.topic, record.value, record.key, 0, self._offset, self._commit_us // 1_000, record.headers
        )
        self._sent.append(again)
        return again

    def _row(self, account: bytes) -> bytes:
        rnd = self._rnd
        booked = format_us(
            self._commit_us - rnd.choice((0, 1, 999, 1_000, 1_001, 5_000_000, DAY_US, 40 * DAY_US, -400 * DAY_US))
        )
        columns: list[tuple[bytes, Sequence[bytes], Sequence[str]]] = [
            (b"transaction_id", (b"%d" % rnd.randrange(self._ids),) * 4 + (_LARGE, b"-7"), ()),
            (b"account_id", (account,), ()),
            (b"type", (b'"debit"', b'"debit"', b'"credit"'), ("debit ", "Credit")),
            (b"amount", (b'"12.30"', b'"0.50"', b'"600.00"', b'"9500.00"', b'"12000.00"', b'"9999999999999999.99"'), AMOUNTS),
            (b"currency", (b'"EUR"', b'"EUR"', b'"USD"'), ("", "EURO", "EUROEURO", "EUROEUROS", "€€", "€€€", "E\x7f")),
            (b"status", (b'"posted"', b'"pending"', b'"declined"', b'"reversed"'), ("", "disputed", "Posted", "größer")),
            (b"channel", (b'"card"', b"null"), ()),
            (b"merchant_id", (b'"M1"', b"null"), ("\u2028",)),
            (b"merchant_category", (b'"5411"', b"null"), ()),
            (b"counterparty_account", (b'"DE1"', b'"DE2"', b"null"), ("", "ä" * 65, "x" * 64, "x" * 63, "y" * 128, "y" * 129)),
            (b"country_code", (b'"DE"', b'"FR"', b"null"), ("", "DEUTSCHLAND", "ÄÖÜß", "ÄÖÜßx")),
            (b"latitude", (b'"52.520000"', b"null"), COORDINATES),
            (b"longitude", (b'"13.400000"', b"null"), COORDINATES),
            (b"device_id", (b'"d-1"', b"null"), ()),
            (b"description", (b'"Lunch"', '"Caf\u00e9 \U0001f600"'.encode(), b"null"), ()),
            (b"booked_at", (_text(booked),), INSTANTS),
            (b"created_at", (_text(booked), b"null"), INSTANTS),
        ]  # fmt: skip
        fields = []
        for name, usual, unusual in columns:
            value = rnd.choice(usual)
            if self._is_odd(0.1):
                value = _text(rnd.choice(unusual)) if unusual and rnd.random() < 0.6 else odd(rnd)
            if not (self._is_odd(0.05) and name in (b"channel", b"latitude", b"created_at", b"description")):
                fields.append((b'"' + name + b'"', value))
        return _object(rnd, fields, self._oddity)

    def _envelope(self, operation: bytes, before: bytes, after: bytes, table: bytes = b'"transactions"') -> bytes:
        rnd = self._rnd
        lsn = b"%d" % (self._lsn - rnd.choice((0, 0, 0, 0, 1, 2, 50)))
        origin = [
            (b'"version"', b'"3.6.1.Final"'), (b'"connector"', b'"postgresql"'), (b'"name"', b'"bank"'),
            (b'"ts_ms"', b"%d" % (self._commit_us // 1_000)), (b'"snapshot"', rnd.choice((b'"false"', b"false", b"null"))),
            (b'"sequence"', b'"[null,\\"1\\"]"'), (b'"ts_us"', b"%d" % self._commit_us), (b'"schema"', b'"public"'), (b'"table"', table),
            (b'"txId"', rnd.choice((b"7", b"null"))), (b'"lsn"', lsn), (b'"xmin"', b"null"),
        ]  # fmt: skip
        if self._is_odd(0.5):
            at = rnd.randrange(len(origin))
            instants = (
                b"-1",
                b"0",
                b"253402300799999999",
                b"253402300800000000",
                b"-62135596800000000",
                b"-62135596800000001",
            )
            origin[at] = (origin[at][0], odd(rnd) if rnd.random() < 0.6 else rnd.choice(instants))
        fields = [
            (b'"before"', before), (b'"after"', after), (b'"source"', _object(rnd, origin, self._oddity / 2)), (b'"transaction"', b"null"),
            (b'"op"', b'"' + operation + b'"'), (b'"ts_ms"', b"1772442000020"),
        ]  # fmt: skip
        if self._is_odd(0.3):
            at = rnd.randrange(len(fields))
            fields[at] = (fields[at][0], odd(rnd))
        value = _object(rnd, fields, self._oddity / 2)
        if self._is_odd(0.2):
            schema = rnd.choice((b"null", b"{}", b'{"type":"struct","fields":[]}', odd(rnd)))
            value = rnd.choice((b'{"schema":%b,"payload":%b}', b'{"payload":%b,"schema":%b}', b'{"schema":%b,%b')) % (
                (schema, value) if rnd.random() < 0.9 else (value, schema)
            )
        return value


def replacements(value: bytes) -> list[bytes]:
    """Replaces each value in a record in turn by each unexpected value. The texts of the record must have no escapes."""
    return [
        value[: match.start(1)] + other + value[match.end(1) :]
        for match in re.finditer(rb':("[^"\\]*"|-?[0-9.]+|null|true|false)', value)
        for other in (*(it for it in ODD if len(it) < 1_000), *(map(_text, (*INSTANTS, *AMOUNTS, *COORDINATES))))
    ]


class Records:
    """One partition of bank.transactions: few customers and transactions, late and early ones, corrections, deletions, and any bytes."""

    def __init__(self, rnd: Random, oddity: float, mutation: float) -> None:
        self._rnd, self._oddity, self._mutation = rnd, oddity, mutation
        self._lsn, self._offset, self._us = 1_000, 0, COMMIT_US
        self._sent: list[Record] = []
        self._booked: dict[tuple[int, bytes, int], int] = {}
        self._step = rnd.choice(
            ((0, 1, 1_000), (0, 1_000_000, 30_000_000), (60_000_000, 3_600_000_000), (DAY_US, 5 * DAY_US))
        )
        self._customers = rnd.choice(((1,), (1, 2), (1, 2, -3)))
        self._ids = rnd.choice((6, 30, 1_000))
        self._spread = rnd.choice(
            ((0,), (0, 0, 0, 1, 999, 1_000, 60_000_000), (0, 0, DAY_US, 31 * DAY_US, 32 * DAY_US, -400 * DAY_US))
        )

    def next(self) -> Record:
        """The next record, rarely a table command."""
        rnd = self._rnd
        self._lsn += rnd.randrange(3)
        self._us += rnd.choice(self._step)
        chance = rnd.random()
        if chance < 0.02:
            order = b'{"order":"truncate","table":"transactions","source":%b,"recorded_ms":0}' % self._source(0)
            return Record("bank.control", order, None)
        if chance < 0.08 and self._sent:
            return rnd.choice(self._sent)
        customer = rnd.choice(self._customers)
        key: bytes | None = b'{"customer_id":%d}' % customer
        if rnd.random() < self._oddity / 4:
            key = rnd.choice(
                (None, b'{"customer_id":9}', b'{"customer_id": 1}', b"", b'{"customer_id":01}', b'{"customer_id":"1"}')
            )
        transaction_id, account = rnd.randrange(self._ids), rnd.choice((b"5", b"5", b"6"))
        booked_us, identity = self._us - rnd.choice(self._spread), (customer, account, transaction_id)
        if rnd.random() < 0.7:  # a correction that keeps the event's place
            booked_us = self._booked.get(identity, booked_us)
        self._booked[identity] = booked_us
        fields: list[tuple[bytes, Sequence[bytes], Sequence[str]]] = [
            (b"op", (b'"created"', b'"created"', b'"created"', b'"updated"', b'"updated"', b'"deleted"'), ("Created",)),
            (b"transaction_id", (b"%d" % transaction_id,), ()),
            (b"account_id", (account,), ()),
            (b"customer_id", (b"%d" % customer,), ()),
            (b"type", (b'"debit"', b'"debit"', b'"credit"'), ("x",)),
            (b"amount", (b'"1.00"', b'"0.50"', b'"0.01"', b'"600.00"', b'"9500.00"', b'"12000.00"', b'"9999999999999999.99"'), AMOUNTS),
            (b"currency", (b'"EUR"', b'"EUR"', b'"EUR"', b'"USD"'), ("", "EUROEURO", "EUROEUROS", "€€", "€€€", "\x7f")),
            (b"status", (b'"posted"', b'"posted"', b'"pending"', b'"declined"', b'"reversed"'), ("", "disputed", "posted ")),
            (b"channel", (b'"card"', b"null"), ()),
            (b"merchant_id", (b"null",), ()),
            (b"merchant_category", (b"null",), ()),
            (b"counterparty_account", (b'"A"', b'"B"', b'"C"', b"null"), ("", "x" * 128, "x" * 129, "ä" * 100)),
            (b"country_code", (b'"DE"', b'"FR"', b"null"), ("", "DEUTSCHL", "DEUTSCHLA", "ÄÖÜß", "ÄÖÜßx")),
            (b"latitude", (b"null", b'"1.5"'), ()),
            (b"longitude", (b"null",), ()),
            (b"device_id", (b"null",), ()),
            (b"description", (b"null", '"Café"'.encode()), ()),
            (b"booked_at", (_text(format_us(booked_us)),), INSTANTS),
            (b"created_at", (b"null",), INSTANTS),
            (b"account", (b"{}", b'{"type":"checking","x":[1,2.5e3,{"y":null}]}'), ()),
        ]  # fmt: skip
        written = []
        for name, usual, unusual in fields:
            value = rnd.choice(usual)
            if rnd.random() < self._oddity / 15:
                value = _text(rnd.choice(unusual)) if unusual and rnd.random() < 0.6 else odd(rnd)
            written.append((b'"' + name + b'"', value))
        written.append((b'"source"', self._source(self._oddity)))
        value = _object(rnd, written, self._oddity / 2)
        if rnd.random() < self._mutation:
            value = mutated(rnd, value)
        self._offset += 1
        record = Record("bank.transactions", value, key, 0, self._offset, self._us // 1_000)
        self._sent.append(record)
        return record

    def ordinary(self, transaction_id: int, currency: str = "EUR") -> Record:
        """A new transaction of 1.00, one second after the previous one."""
        self._us += 1_000_000
        self._lsn += 1_000
        value = encode(
            transaction(transaction_id, self._us - START_US, "1.00", currency=currency, customer_id=1, lsn=self._lsn)
        )  # fmt: skip
        self._offset += 1
        return Record("bank.transactions", value, b'{"customer_id":1}', 0, self._offset)

    def whole(self) -> Record:
        """The new transaction 7 with a value in every column."""
        record = self.ordinary(7)
        decoded = msgspec.json.decode(record.value or b"", type=TransactionRecord)
        full = replace(
            decoded, merchant_id="M1", merchant_category="5411", counterparty_account="DE1", country_code="DE", latitude="52.5",
            longitude="13.4", device_id="d-1", description="Lunch", created_at=decoded.booked_at, account={"x": 1, "y": "z"},
        )  # fmt: skip
        return Record(record.topic, encode(full), record.key, 0, record.offset)

    def _source(self, oddity: float) -> bytes:
        rnd = self._rnd
        self._offset += 1
        lsn = b"null" if rnd.random() < 0.03 else b"%d" % (self._lsn - rnd.choice((0, 0, 0, 0, 0, 1, 100)))
        fields = [
            (b'"topic"', b'"bank.public.transactions"'), (b'"partition"', b"0"), (b'"offset"', b"%d" % self._offset), (b'"lsn"', lsn),
            (b'"tx_id"', rnd.choice((b"7", b"null"))), (b'"commit_time"', _text(format_us(self._us))),
        ]  # fmt: skip
        if rnd.random() < oddity / 4:
            at = rnd.randrange(len(fields))
            fields[at] = (fields[at][0], odd(rnd) if rnd.random() < 0.6 else _text(rnd.choice(INSTANTS)))
        return _object(rnd, fields, oddity / 6)
