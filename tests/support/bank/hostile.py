"""The table of hostile inputs: what a source or a broker may send, with the result of each. docs/HOSTILE_INPUT.md is generated from it.

python -m tests.support.bank.hostile > docs/HOSTILE_INPUT.md
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.support.bank.cdc import COMMIT_US, CdcLog, Record, envelope, json_bytes
from tests.support.streams.topology_driver import TopologyDriver

CUSTOMER: dict[str, Any] = {"customer_id": 1, "name": "Ada", "notes": "long"}
ACCOUNT: dict[str, Any] = {"account_id": 5, "customer_id": 1, "type": "checking", "currency": "EUR", "balance": "0.00"}
TRANSACTION: dict[str, Any] = {
    "transaction_id": 7, "account_id": 5, "type": "debit", "amount": "12.30", "currency": "EUR", "status": "posted",
    "booked_at": "2026-03-02T09:00:00Z",
}  # fmt: skip
KEY = b'{"customer_id":1}'
PLACEHOLDER = "__debezium_unavailable_value"


def people() -> CdcLog:
    """A log of customers."""
    return CdcLog("customers", "customer_id")


def changes(*steps: tuple[str, Any], **options: Any) -> list[Record]:
    """Consecutive changes of customers: (op, row or None)."""
    log = people()
    for op, row in steps:
        log.change(op, **({"before": row} if op == "d" else {"after": row}), **options)
    return log.records


def raw(value: bytes | None, key: bytes | None = KEY, headers: tuple[tuple[str, bytes], ...] = ()) -> list[Record]:
    """One record of the customers' topic with any bytes."""
    return [people().append(key, value, headers)]


def customer(**columns: Any) -> bytes:
    """The value of an insert of customer 1."""
    return envelope("customers", "c", after=CUSTOMER | columns)


def transaction(**columns: Any) -> list[Record]:
    """An account, and an insert of a transaction on it."""
    moves = CdcLog("transactions", "account_id", lsn=5_000)
    return [CdcLog("accounts", "account_id").change("c", after=ACCOUNT), moves.change("c", after=TRANSACTION | columns)]


def times(op: str, lsns: list[int | None], **options: Any) -> list[Record]:
    """Updates of customer 1 with these log positions. Each changes the name."""
    log = people()
    return [log.change(op, after=CUSTOMER | {"name": str(n)}, lsn=n, **options) for n in lsns]


def typed(semantic: str, value: Any, **parameters: str) -> bytes:
    """An insert with its schema, whose column `risk` has this semantic type."""
    column = {"type": "any", "field": "risk", "name": semantic, "parameters": parameters}
    schema = {"type": "struct", "fields": [{"type": "struct", "field": "after", "fields": [column]}]}
    return json_bytes({"schema": schema, "payload": json.loads(customer(risk=value))})


def _swap() -> list[Record]:
    """Two customers exchange their keys by way of a third key."""
    log = people()
    log.change("c", after=CUSTOMER)
    log.change("c", after=CUSTOMER | {"customer_id": 2, "name": "Bo"})
    for old, new, name in ((1, 3, "Ada"), (2, 1, "Bo"), (3, 2, "Ada")):
        row = {"notes": "long", "name": name}
        log.change(
            "d", before=row | {"customer_id": old}, headers=(("__debezium.newkey", b'{"customer_id":%d}' % new),)
        )
        log.append(b'{"customer_id":%d}' % old, None)
        log.change(
            "c",
            after=row | {"customer_id": new},
            lsn=log.lsn,
            headers=(("__debezium.oldkey", b'{"customer_id":%d}' % old),),
        )
    return log.records


def _one_lsn() -> list[Record]:
    log = people()
    return [log.change("c", after=CUSTOMER | {"customer_id": key}, lsn=500) for key in range(100)]


@dataclass(frozen=True)
class Case:
    """An input and its result: SCD2 records by op and reason, transactions by op, dead letters by reason, in the order of the topics."""

    section: str
    what: str
    records: Callable[[], list[Record]]
    gives: str
    note: str = ""


def outcome(records: list[Record]) -> str:
    """The output of the streams worker for these records."""
    streams = TopologyDriver()
    streams.take(*records)
    streams.pass_barriers()
    found = [
        f"{r['op']} ({r['reason']})"
        for topic in ("customers", "accounts")
        for r in streams.values(f"bank.scd2.{topic}")
    ]
    found += [f"transaction {r['op']}" for r in streams.values("bank.transactions")]
    found += [f"dead letter `{reason}`" for reason in streams.reasons]
    return _counted(found) or "nothing"


def _counted(items: list[str]) -> str:
    """Consecutive equal items as `n x item`."""
    counted: list[tuple[str, int]] = []
    for item in items:
        if counted and counted[-1][0] == item:
            counted[-1] = (item, counted[-1][1] + 1)
        else:
            counted.append((item, 1))
    return ", ".join(item if count == 1 else f"{count} x {item}" for item, count in counted)


ENVELOPE, ORDER, VALUES, BYTES = "Envelope", "Order", "Values", "Bytes"
CREATED, UPDATED = "open (created)", "open (created), close (superseded), open (updated)"
TWICE = CUSTOMER | {"name": "Bo"}

CASES = (
    Case(ENVELOPE, "a snapshot read, repeated", lambda: changes(("r", CUSTOMER), ("r", CUSTOMER)), CREATED),
    Case(ENVELOPE, "a snapshot read older than the row", lambda: times("c", [900]) + times("r", [100]), CREATED),
    Case(
        ENVELOPE,
        "an insert of a key that lives",
        lambda: changes(("c", CUSTOMER), ("c", TWICE)),
        "open (created), close (vanished), open (revived)",
        "its key was free: a deletion was not seen",
    ),
    Case(ENVELOPE, "an update of an unknown key", lambda: changes(("u", CUSTOMER)), CREATED),
    Case(
        ENVELOPE,
        "a delete whose `before` has the key only",
        lambda: changes(("c", CUSTOMER), ("d", {"customer_id": 1})),
        "open (created), close (deleted)",
    ),
    Case(
        ENVELOPE,
        "a delete without `before`",
        lambda: [*changes(("c", CUSTOMER)), *raw(envelope("customers", "d", lsn=900))],
        "open (created), close (deleted)",
        "the message key says which row",
    ),
    Case(ENVELOPE, "a tombstone alone", lambda: raw(None), "nothing"),
    Case(
        ENVELOPE,
        "TRUNCATE",
        lambda: [*changes(("c", CUSTOMER)), *raw(envelope("customers", "t", lsn=900), key=None)],
        "open (created), close (truncated)",
        "on every partition, by way of `bank.control`",
    ),
    Case(ENVELOPE, "a logical message", lambda: raw(envelope("customers", "m")), "nothing"),
    Case(
        ENVELOPE,
        "a heartbeat",
        lambda: raw(b'{"ts_ms":1}'),
        "dead letter `not_an_envelope`",
        "they have a topic of their own",
    ),
    Case(
        ENVELOPE,
        "transaction metadata (BEGIN, END)",
        lambda: raw(b'{"status":"BEGIN","id":"755:28392928","ts_ms":1}'),
        "dead letter `not_an_envelope`",
        "they have a topic of their own",
    ),
    Case(ENVELOPE, "with schema", lambda: raw(envelope("customers", "c", after=CUSTOMER, schema=True)), CREATED),
    Case(ENVELOPE, "{schema, payload: null}", lambda: raw(b'{"schema":{"type":"struct"},"payload":null}'), "nothing"),
    Case(ENVELOPE, "flattened by a transform", lambda: raw(json_bytes(CUSTOMER)), "dead letter `not_an_envelope`"),
    Case(ENVELOPE, "Avro (magic byte 0)", lambda: raw(b"\x00\x00\x00\x00\x07\x02Ada"), "dead letter `not_json`"),
    Case(
        ENVELOPE,
        "another table's change",
        lambda: raw(envelope("accounts", "c", after=ACCOUNT)),
        "dead letter `wrong_table`",
    ),
    Case(
        ENVELOPE,
        "a key unlike the row's",
        lambda: raw(customer(), key=b'{"customer_id":2}'),
        "dead letter `key_mismatch`",
    ),
    Case(
        ENVELOPE,
        "an unknown op",
        lambda: raw(envelope("customers", "z", after=CUSTOMER)),
        "dead letter `unknown_operation`",
    ),
    Case(
        ENVELOPE,
        "keys swapped: three times d, tombstone, c at one lsn each",
        _swap,
        "2 x open (created), close (key_changed), open (key_changed), close (key_changed), open (key_changed), close (key_changed), "
        "open (key_changed)",
    ),
    Case(
        ENVELOPE,
        "a message key of more columns",
        lambda: raw(customer(), key=b'{"customer_id":1,"region":"eu"}'),
        CREATED,
        "the primary key's column counts",
    ),
    Case(
        ORDER,
        "lsn 108, then 100 on another key",
        lambda: [*times("c", [108]), people().change("c", after=CUSTOMER | {"customer_id": 2}, lsn=100)],
        "2 x open (created)",
    ),
    Case(ORDER, "100 rows of one lsn (COPY)", _one_lsn, "100 x open (created)"),
    Case(
        ORDER,
        "changes of one instant",
        lambda: times("u", [1, 2], commit_us=COMMIT_US),
        UPDATED,
        "the first is valid for no time",
    ),
    Case(
        ORDER,
        "sequence null or malformed",
        lambda: raw(envelope("customers", "c", after=CUSTOMER, sequence="[[")),
        CREATED,
        "not read",
    ),
    Case(
        ORDER,
        "lsn null",
        lambda: times("u", [None, None])[:1] + raw(envelope("customers", "u", after=TWICE, lsn=None)),
        UPDATED,
        "Kafka's order counts",
    ),
    Case(
        ORDER,
        "lsn 2^63",
        lambda: raw(envelope("customers", "c", after=CUSTOMER, lsn=2**63)),
        "dead letter `not_an_envelope`",
        "PostgreSQL's positions fit 64 bits",
    ),
    Case(
        ORDER,
        "lsn -2^63",
        lambda: raw(envelope("customers", "c", after=CUSTOMER, lsn=-(2**63))),
        CREATED,
        "taken for unknown",
    ),
    Case(ORDER, "lsn going back on one key", lambda: times("u", [200, 100]), CREATED, "a replay"),
    Case(
        ORDER,
        "positions 1 2 3 2 3 4",
        lambda: times("u", [1, 2, 3, 2, 3, 4]),
        "open (created), close (superseded), open (updated), close (superseded), open (updated), close (superseded), open (updated)",
    ),
    Case(
        ORDER,
        "commit time going back",
        lambda: [*times("u", [1]), *raw(envelope("customers", "u", after=TWICE, lsn=2, commit_us=1))],
        UPDATED,
        "lifted to the version before: no overlap",
    ),
    Case(ORDER, "commit time 0", lambda: raw(envelope("customers", "c", after=CUSTOMER, ts_us=0)), CREATED, "1970"),
    Case(
        ORDER,
        "commit time negative",
        lambda: raw(envelope("customers", "c", after=CUSTOMER, ts_us=-1)),
        CREATED,
        "1969",
    ),
    Case(
        ORDER,
        "commit time in the wrong unit",
        lambda: raw(envelope("customers", "c", after=CUSTOMER, ts_us=COMMIT_US * 1000)),
        "dead letter `no_commit_time`",
        "no instant of the years 1 to 9999",
    ),
    Case(
        ORDER,
        "commit time a year ahead",
        lambda: raw(envelope("customers", "c", after=CUSTOMER, commit_us=COMMIT_US + 31_536_000_000_000)),
        CREATED,
        "later changes are not valid before it",
    ),
    *(
        Case(
            VALUES,
            f"an unchanged TOAST value ({kind})",
            partial(changes, ("c", CUSTOMER), ("u", TWICE | {"notes": value})),
            UPDATED,
            "keeps the old value",
        )
        for kind, value in (
            ("text, uuid", PLACEHOLDER),
            ("bytea", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="),
            ("array", [PLACEHOLDER]),
            ("hstore", {PLACEHOLDER: PLACEHOLDER}),
        )
    ),
    Case(
        VALUES,
        "an unchanged TOAST value of an unknown row",
        lambda: changes(("u", CUSTOMER | {"notes": PLACEHOLDER})),
        "dead letter `unavailable_value`",
    ),
    Case(
        VALUES,
        "the placeholder as a text of an insert",
        lambda: raw(customer(notes=PLACEHOLDER)),
        CREATED,
        "just a text",
    ),
    Case(
        VALUES,
        "decimal as bytes, `AfQ=`, scale 2",
        lambda: raw(typed("org.apache.kafka.connect.data.Decimal", "AfQ=", scale="2")),
        CREATED,
        "`5.00`",
    ),
    Case(
        VALUES,
        "decimal as no bytes",
        lambda: raw(typed("org.apache.kafka.connect.data.Decimal", "", scale="2")),
        "dead letter `bad_value`",
    ),
    Case(
        VALUES,
        "VariableScaleDecimal",
        lambda: raw(typed("io.debezium.data.VariableScaleDecimal", {"scale": 3, "value": "BGU="})),
        CREATED,
        "`1.125`",
    ),
    Case(VALUES, "amount NaN", lambda: transaction(amount="NaN"), "open (created), dead letter `bad_amount`"),
    Case(VALUES, "amount Infinity", lambda: transaction(amount="Infinity"), "open (created), dead letter `bad_amount`"),
    Case(
        VALUES,
        "amount as a JSON number",
        lambda: transaction(amount=12.3),
        "open (created), dead letter `bad_row`",
        "the message says which connector setting",
    ),
    Case(
        VALUES,
        "amount `$1,234.56`",
        lambda: transaction(amount="$1,234.56"),
        "open (created), dead letter `bad_amount`",
    ),
    Case(
        VALUES,
        "amount with a third digit",
        lambda: transaction(amount="1.005"),
        "open (created), dead letter `bad_amount`",
    ),
    Case(
        VALUES,
        "amount of 16 digits",
        lambda: transaction(amount="9999999999999999.99"),
        "open (created), transaction created",
    ),
    Case(
        VALUES,
        "booked at `infinity`",
        lambda: transaction(booked_at="infinity"),
        "open (created), dead letter `bad_time`",
    ),
    Case(
        VALUES,
        "booked at 9999-12-31",
        lambda: transaction(booked_at="9999-12-31T23:59:59.999999Z"),
        "open (created), transaction created",
    ),
    Case(
        VALUES,
        "`infinity` in a customer's column",
        lambda: raw(customer(closed_at="infinity")),
        CREATED,
        "kept as it is",
    ),
    Case(
        VALUES,
        "NULL, then an empty text",
        lambda: changes(("c", CUSTOMER | {"name": None}), ("u", CUSTOMER | {"name": ""})),
        UPDATED,
    ),
    Case(
        VALUES,
        "`a|b` in one column, then in two",
        lambda: changes(("c", CUSTOMER | {"x": "a|b", "y": ""}), ("u", CUSTOMER | {"x": "a", "y": "b|"})),
        UPDATED,
    ),
    Case(
        VALUES,
        "NFC, then NFD",
        lambda: changes(("c", CUSTOMER | {"name": "\u00fc"}), ("u", CUSTOMER | {"name": "u\u0308"})),
        UPDATED,
        "two different texts to PostgreSQL too",
    ),
    Case(
        VALUES,
        "one text, escaped differently",
        lambda: [
            *raw(customer(name="\u00fc")),
            *raw(envelope("customers", "u", after=CUSTOMER | {"name": "U"}, lsn=900).replace(b'"U"', b'"\\u00fc"')),
        ],
        CREATED,
    ),
    Case(
        VALUES,
        "jsonb with its keys in another order",
        lambda: changes(("c", CUSTOMER | {"x": '{"a":1,"b":2}'}), ("u", CUSTOMER | {"x": '{"b":2,"a":1}'})),
        UPDATED,
        "PostgreSQL normalises jsonb, so another text is another value",
    ),
    Case(
        VALUES,
        "uuid in capitals",
        lambda: changes(("c", CUSTOMER | {"x": "AB"}), ("u", CUSTOMER | {"x": "ab"})),
        UPDATED,
    ),
    Case(
        VALUES,
        "a new column",
        lambda: changes(("c", CUSTOMER), ("u", CUSTOMER | {"tier": 3})),
        UPDATED,
        "without a restart",
    ),
    Case(VALUES, "a dropped column", lambda: changes(("c", CUSTOMER | {"tier": 3}), ("u", CUSTOMER)), UPDATED),
    Case(
        VALUES,
        "a widened column",
        lambda: changes(("c", CUSTOMER | {"tier": 3}), ("u", CUSTOMER | {"tier": 2**40})),
        UPDATED,
    ),
    Case(BYTES, "bad UTF-8", lambda: raw(customer(name="X").replace(b'"X"', b'"\xff"')), "dead letter `not_json`"),
    Case(BYTES, "a byte order mark", lambda: raw(b"\xef\xbb\xbf" + customer()), "dead letter `not_json`"),
    Case(BYTES, "no bytes", lambda: raw(b""), "dead letter `not_json`"),
    Case(BYTES, "garbage behind the JSON", lambda: raw(customer() + b"}"), "dead letter `not_json`"),
    Case(BYTES, "U+0000 in a text", lambda: raw(customer(name="a\x00b")), CREATED, "kept as it is"),
    Case(
        BYTES,
        "100,000 nested arrays",
        lambda: raw(customer(name="X").replace(b'"X"', b"[" * 100_000 + b"]" * 100_000)),
        "dead letter `not_json`",
    ),
    Case(
        BYTES,
        "`op` twice",
        lambda: raw(customer()[:-1] + b',"op":"d"}'),
        "nothing",
        "the last one counts, as in every JSON parser of the way; here the delete of an unknown row",
    ),
    Case(BYTES, "a NaN literal", lambda: raw(customer(name="X").replace(b'"X"', b"NaN")), "dead letter `not_json`"),
    Case(
        BYTES, "1e400 in a column", lambda: raw(customer(name="X").replace(b'"X"', b"1e400")), CREATED, "kept as it is"
    ),
    Case(
        BYTES,
        "2^64+1 as key",
        lambda: raw(customer(customer_id=2**64 + 1), key=b'{"customer_id":18446744073709551617}'),
        "dead letter `bad_key`",
    ),
    Case(
        BYTES,
        "an integer of 5,000 digits",
        lambda: raw(customer(name="X").replace(b'"X"', b"9" * 5_000)),
        CREATED,
        "kept as it is",
    ),
    Case(
        BYTES,
        "one number beyond all bounds, then another",
        lambda: [
            *raw(customer(name="X").replace(b'"X"', b"9" * 5_000)),
            *raw(envelope("customers", "u", after=CUSTOMER | {"name": "X"}, lsn=900).replace(b'"X"', b"1e400")),
        ],
        UPDATED,
    ),
    Case(BYTES, "a value of 10 MB", lambda: raw(customer(name="x" * 10_000_000)), CREATED),
    Case(
        BYTES,
        "a key of 1 MB",
        lambda: raw(customer(), key=b'{"customer_id":1,"x":"' + b"x" * 1_000_000 + b'"}'),
        CREATED,
    ),
    Case(BYTES, "10,000 columns", lambda: raw(customer(**{f"c{n}": n for n in range(10_000)})), CREATED),
    Case(
        BYTES,
        "SQL in a column's name",
        lambda: raw(customer(**{'"; DROP TABLE customers; --': 1})),
        CREATED,
        "a name like any other",
    ),
    Case(
        BYTES,
        "`../` and CRLF in a key",
        lambda: raw(customer(), key=b'{"customer_id":"../../\\r\\n"}'),
        "dead letter `key_mismatch`",
    ),
    Case(
        BYTES,
        "newlines and ANSI codes in a text",
        lambda: raw(customer(name="a\nb\x1b[31m")),
        CREATED,
        "escaped in JSON, and where it is printed",
    ),
    Case(
        BYTES,
        "Faust's `__faust` type metadata",
        lambda: raw(customer(__faust={"ns": "os.system"})),
        CREATED,
        "a column like any other",
    ),
    Case(
        BYTES,
        "a `Faust-Ag-ReplyTo` header",
        lambda: raw(customer(), headers=(("Faust-Ag-ReplyTo", b"evil"),)),
        CREATED,
        "ignored",
    ),
)


def page() -> str:
    """The text of docs/HOSTILE_INPUT.md."""
    lines = [
        "# Hostile input",
        "",
        (
            "What may a source, a connector or a broker send, and what is the result in the streams worker? Each row is a test "
            "(`tests/agents/test_hostile_input.py`); this page is generated from the same table (`python -m tests.support.bank.hostile`). "
            "A dead letter does not stop the partition: it keeps its bytes, and the records around it are processed."
        ),
    ]
    for section in (ENVELOPE, ORDER, VALUES, BYTES):
        lines += ["", f"## {section}", "| input | gives | |", "|---|---|---|"]
        cases = (case for case in CASES if case.section == section)
        lines += [f"| {_cell(case.what)} | {_cell(case.gives)} | {_cell(case.note)} |" for case in cases]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - a command
