"""Queries the warehouse for the dashboard, as functions of a session and the present time. No Streamlit, no float for money.

Live pages read the last minutes or days of the landing tables (schema BRONZE), typed as in dbt/models/silver, because gold is as old as
the last dbt build. History reads gold. Times are naive UTC, as the warehouse's TIMESTAMP_NTZ.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from ops.dashboard.records import (
    Alert,
    Alerts,
    Customer,
    DeadLetters,
    Health,
    History,
    Live,
    RuleCount,
    Slice,
    TopicHealth,
    Total,
    Transaction,
    Velocity,
    Version,
)
from ops.dashboard.warehouse import Session

SLICES: Final = 60
"""The number of slices of the live page's time range."""
CUSTOMER_DAYS: Final = 31
MAX_ROWS: Final = 5_000
MAX_LISTED: Final = 200
MAX_NEWEST: Final = 12
NEWEST_MS: Final = 60_000
"""The newest transactions are selected from the rows written in this time before the newest row."""
MAX_ALERTS: Final = 40
MAX_DAYS: Final = 400
MAX_BARS: Final = 25
MAX_TRANSACTIONS: Final = 60

CHANGES: Final = """
    select record:value as value, record:ts::number(38, 0) as written_ms
    from {bronze}.TRANSACTIONS
    where record:ts::number(38, 0) >= %(landed_ms)s {and_more}
    qualify row_number() over (
        partition by record:value:transaction_id::varchar
        order by record:ts::number(38, 0) desc, record:offset::number(38, 0) desc
    ) = 1
"""
"""The last record of each transaction that changed since `landed_ms`."""
BOOKED_AT: Final = "convert_timezone('UTC', try_cast(value:booked_at::varchar as timestamp_tz))::timestamp_ntz"

DIMENSIONS: Final[Mapping[str, str]] = {
    "day": "transactions.booked_at::date::varchar",
    "merchant": "transactions.merchant_id",
    "country": "transactions.country_code",
    "risk rating": "customers.risk_rating",
    "account type": "accounts.type",
}
"""The dimensions of the history page. Only these expressions are put into SQL."""


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _from_ms(value: int) -> datetime:
    return datetime.fromtimestamp(int(value) / 1000, UTC).replace(tzinfo=None)


def live(session: Session, now: datetime, minutes: int) -> Live | None:
    """Returns the last `minutes`, up to the newest landed row; None if no transaction booked in them has landed."""
    slice_s = minutes * 60 // SLICES
    began = int((now - timedelta(minutes=minutes)).timestamp())
    since = datetime.fromtimestamp(began - began % slice_s, UTC)
    values = {"landed_ms": _milliseconds(since), "since": _naive(since), "until": _naive(now)}
    rows = session.rows(
        f"""
        with changes as ({CHANGES.replace("{and_more}", "")}),
        transactions as (
            select
                {BOOKED_AT} as booked_at,
                value:type::varchar as type,
                value:currency::varchar as currency,
                try_cast(value:amount::varchar as number(18, 2)) as amount,
                value:op::varchar <> 'deleted' and value:status::varchar in ('pending', 'posted') as moves_money,
                written_ms
            from changes
        )
        select time_slice(booked_at, {slice_s:d}, 'SECOND') as slice, currency, type, count(*),
            sum(cast(amount as number(38, 2)))::number(38, 2), moves_money, max(written_ms)
        from transactions
        where booked_at between %(since)s and %(until)s
        group by slice, currency, type, moves_money
        order by slice
        limit {MAX_ROWS}
        """,  # noqa: S608 - constants of this module
        values,
    )
    if not rows:
        return None
    newest_ms = max(int(row[-1]) for row in rows)
    lately = values | {"landed_ms": max(newest_ms - NEWEST_MS, values["landed_ms"])}
    return Live(
        slice_s=slice_s,
        began=_naive(since),
        until=min(_from_ms(newest_ms), _naive(now)),
        slices=tuple(
            Slice(at, currency, type_, int(count), amount)
            for at, currency, type_, count, amount, moves, _ in rows
            if moves
        ),
        newest=_transactions(session, lately, MAX_NEWEST),
    )


def _transactions(
    session: Session, values: Mapping[str, object], limit: int, and_more: str = ""
) -> tuple[Transaction, ...]:
    """Returns the transactions that changed since `landed_ms` and were not deleted, the newest bookings first."""
    rows = session.rows(
        f"""
        with changes as ({CHANGES.replace("{and_more}", and_more)})
        select value::varchar
        from changes
        where value:op::varchar <> 'deleted'
        order by {BOOKED_AT} desc, value:transaction_id::varchar desc
        limit {limit:d}
        """,  # noqa: S608 - constants of this module
        values,
    )
    return tuple(_transaction(json.loads(row[0])) for row in rows)


def _transaction(value: Mapping[str, Any]) -> Transaction:
    return Transaction(
        transaction_id=int(value["transaction_id"]), customer_id=int(value["customer_id"]), account_id=int(value["account_id"]),
        type=str(value["type"]), amount=Decimal(value["amount"]), currency=str(value["currency"]), status=str(value["status"]),
        channel=str(value.get("channel") or ""), merchant_id=str(value.get("merchant_id") or ""),
        country_code=str(value.get("country_code") or ""), booked_at=_moment(value["booked_at"]),
    )  # fmt: skip


ALERTED: Final = """
    select record:value as alert
    from {bronze}.ALERTS
    where record:ts::number(38, 0) >= %(landed_ms)s {and_more}
    qualify row_number() over (partition by record:value:alert_id::varchar order by record:offset::number(38, 0)) = 1
"""
"""Alerts written since `landed_ms`, each once even if the landing table has it twice."""


def alerts(session: Session, now: datetime, hours: int) -> Alerts:
    """Returns the alerts of the last `hours` by rule, and the newest ones."""
    values = {"landed_ms": _milliseconds(now - timedelta(hours=hours))}
    counts = session.rows(
        f"""
        with alerted as ({ALERTED.replace("{and_more}", "")})
        select alert:rule::varchar as rule, alert:severity::varchar as severity, count(*) as alerts,
            (select count(distinct alert:customer_id::number(38, 0)) from alerted)
        from alerted
        group by rule, severity
        order by rule, severity
        limit {MAX_LISTED}
        """,  # noqa: S608 - constants of this module
        values,
    )
    return Alerts(
        counts=tuple(RuleCount(rule, severity, int(count)) for rule, severity, count, _ in counts),
        customers=int(counts[0][-1]) if counts else 0,
        newest=_alerts(session, values, MAX_ALERTS) if counts else (),
    )


def _alerts(session: Session, values: Mapping[str, object], limit: int, and_more: str = "") -> tuple[Alert, ...]:
    rows = session.rows(
        f"""
        with alerted as ({ALERTED.replace("{and_more}", and_more)})
        select alert::varchar
        from alerted
        order by alert:detected_at::varchar desc, alert:alert_id::varchar
        limit {limit:d}
        """,  # noqa: S608 - constants of this module
        values,
    )
    return tuple(_alert(json.loads(row[0])) for row in rows)


def _alert(value: Mapping[str, Any]) -> Alert:
    return Alert(
        alert_id=str(value["alert_id"]), rule=str(value["rule"]), severity=str(value["severity"]), score=str(value["score"]),
        customer_id=int(value["customer_id"]), account_id=int(value["account_id"]), transaction_id=int(value["transaction_id"]),
        event_time=_moment(value["event_time"]), detected_at=_moment(value["detected_at"]),
        explanation=str(value["explanation"]), features=dict(value.get("features") or {}),
    )  # fmt: skip


def _moment(text: str) -> datetime:
    return _naive(datetime.fromisoformat(text))


def customer(session: Session, now: datetime, customer_id: int) -> Customer | None:
    """Returns all versions of a customer, and its activity of the last CUSTOMER_DAYS; None if it has never existed."""
    values = {"customer_id": customer_id, "landed_ms": _milliseconds(now - timedelta(days=CUSTOMER_DAYS))}
    records = session.rows(
        f"""
        select record:value::varchar
        from {{bronze}}.SCD2_CUSTOMERS
        where record:value:key:customer_id::number(38, 0) = %(customer_id)s
        order by record:partition::number(38, 0), record:offset::number(38, 0)
        limit {MAX_ROWS}
        """,  # noqa: S608 - constants of this module
        values,
    )
    if not records:
        return None
    mine = "and record:value:customer_id::number(38, 0) = %(customer_id)s"
    velocity = session.rows(
        f"""
        select record:value:event_time::varchar, record:value:currency::varchar, record:value:windows::varchar
        from {{bronze}}.VELOCITY
        where record:ts::number(38, 0) >= %(landed_ms)s {mine}
        order by record:ts::number(38, 0) desc, record:offset::number(38, 0) desc
        limit 1
        """,  # noqa: S608 - constants of this module
        values,
    )
    return Customer(
        customer_id=customer_id,
        versions=versions([json.loads(row[0]) for row in records]),
        transactions=_transactions(session, values, MAX_TRANSACTIONS, mine),
        alerts=_alerts(session, values, MAX_ALERTS, mine),
        velocity=Velocity(_moment(velocity[0][0]), velocity[0][1], json.loads(velocity[0][2])) if velocity else None,
    )


def versions(records: Sequence[Mapping[str, Any]]) -> tuple[Version, ...]:
    """Builds versions from open and close records in log order. Returns the newest version first."""
    closes = {record["version_id"]: record for record in records if record["op"] == "close"}
    made: dict[str, Version] = {}
    before: Mapping[str, Any] = {}
    for record in records:
        if record["op"] != "open" or record["version_id"] in made:
            continue
        close, after = closes.get(record["version_id"]), record["attributes"]
        told = record["changed"] if before and record["reason"] == "updated" else ()
        made[record["version_id"]] = Version(
            valid_from=_moment(record["valid_from"]),
            valid_to=_moment(close["valid_to"]) if close else None,
            reason=record["reason"],
            close_reason=close["reason"] if close else None,
            changed=tuple((name, _text(before.get(name)), _text(after.get(name))) for name in told),
            attributes=after,
        )
        before = after
    return tuple(reversed(made.values()))


def _text(value: object) -> str:
    return "none" if value is None else str(value)


def health(session: Session, now: datetime, landing: Iterable[str]) -> Health:
    """Returns the ledger, the age of the newest row of every topic in the landing tables, and the dead letters of the last day."""
    ages = " union all ".join(
        f"select record:topic::varchar as topic, max(record:ts::number(38, 0)) as newest_ms from {{bronze}}.{table} "  # noqa: S608
        "where record:ts::number(38, 0) >= %(landed_ms)s group by record:topic::varchar"
        for table in landing
    )
    values = {"landed_ms": _milliseconds(now - timedelta(days=1))}
    newest = {topic: _from_ms(ms) for topic, ms in session.rows(ages, values)}
    ledger = session.rows(
        f"""
        select topic, count(distinct log_partition), sum(last_offset + 1), max(loaded_at)
        from {{bronze}}.LAKE_LEDGER
        group by topic
        order by topic
        limit {MAX_LISTED}
        """  # noqa: S608 - constants of this module
    )
    letters = session.rows(
        f"""
        select record:value:topic::varchar as topic, record:value:reason::varchar as reason, count(*) as letters,
            max(record:ts::number(38, 0)) as newest_ms
        from {{bronze}}.DEAD_LETTERS
        where record:ts::number(38, 0) >= %(landed_ms)s
        group by record:value:topic::varchar, record:value:reason::varchar
        order by letters desc
        limit {MAX_LISTED}
        """,  # noqa: S608 - constants of this module
        values,
    )
    return Health(
        tuple(
            TopicHealth(topic, int(count), int(records), loaded, newest.get(topic))
            for topic, count, records, loaded in ledger
        ),
        tuple(DeadLetters(topic, reason, int(count), _from_ms(ms)) for topic, reason, count, ms in letters),
    )


def gold_reaches(session: Session, _now: datetime) -> datetime | None:
    """Returns the commit time of the newest change in gold; None if gold is built but empty."""
    [(newest,)] = session.rows("select max(committed_at) from {gold}.FCT_TRANSACTIONS")
    return newest if isinstance(newest, datetime) else None


def currencies(session: Session, _now: datetime) -> tuple[str, ...]:
    """Returns the currencies in gold, those with the most transactions first."""
    rows = session.rows(
        f"""
        select currency, sum(transaction_count) as transactions
        from {{gold}}.VOLUME_PER_MINUTE
        group by currency
        order by transactions desc, currency
        limit {MAX_LISTED}
        """  # noqa: S608 - constants of this module
    )
    return tuple(row[0] for row in rows)


def history(session: Session, _now: datetime, dimension: str, currency: str, first: date, last: date) -> History:
    """Returns the volume of the days from `first` to `last` by a dimension, from gold."""
    expression = DIMENSIONS[dimension]
    order, limit = (
        ("name desc", MAX_DAYS)
        if dimension == "day"
        else ("iff(name is null, 1, 0), credit_amount + debit_amount desc, name", MAX_BARS)
    )
    rows = session.rows(
        f"""
        with totals as (
            select {expression} as name,
                count_if(transactions.type = 'credit') as credit_count,
                count_if(transactions.type = 'debit') as debit_count,
                sum(cast(iff(transactions.type = 'credit', transactions.amount, 0) as number(38, 2)))::number(38, 2) as credit_amount,
                sum(cast(iff(transactions.type = 'debit', transactions.amount, 0) as number(38, 2)))::number(38, 2) as debit_amount
            from {{gold}}.FCT_TRANSACTIONS as transactions
            left join {{gold}}.DIM_CUSTOMER as customers on transactions.customer_version_id = customers.customer_version_id
            left join {{gold}}.DIM_ACCOUNT as accounts on transactions.account_version_id = accounts.account_version_id
            where transactions.moves_money and transactions.currency = %(currency)s
                and transactions.booked_at >= %(first)s and transactions.booked_at < %(after)s
            group by {expression}
        )
        select name, credit_count, debit_count, credit_amount, debit_amount,
            (select count(*) from totals),
            (select sum(credit_count + debit_count) from totals),
            (select sum(cast(credit_amount as number(38, 2)))::number(38, 2) from totals),
            (select sum(cast(debit_amount as number(38, 2)))::number(38, 2) from totals)
        from totals
        order by {order}
        limit {limit}
        """,  # noqa: S608 - constants of this module
        {
            "currency": currency,
            "first": datetime.combine(first, datetime.min.time()),
            "after": datetime.combine(last + timedelta(days=1), datetime.min.time()),
        },
    )
    totals = tuple(
        Total("none" if name is None else str(name), int(credits_), int(debits), credit_amount, debit_amount)
        for name, credits_, debits, credit_amount, debit_amount, *_ in rows
    )
    if not totals:
        return History((), 0, 0, Decimal(0), Decimal(0))
    groups, count, credit_amount, debit_amount = rows[0][5:]
    return History(totals[::-1] if dimension == "day" else totals, int(groups), int(count), credit_amount, debit_amount)
