"""Transaction records for velocity tests, and windows that are recomputed from a plain list of transactions."""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from app.domain.records import WINDOWS_US, Source, TransactionRecord, Window
from app.domain.times import format_us, parse_us

START_US = parse_us("2026-03-01T12:00:00Z")
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
CENT = Decimal("0.01")


def transaction(
    transaction_id: int,
    at_us: int = 0,
    amount: str = "10.00",
    *,
    op: Any = "created",
    lsn: int | None = None,
    status: str = "posted",
    currency: str = "EUR",
    kind: Any = "debit",
    counterparty: str | None = None,
    country: str | None = None,
    customer_id: int = 7,
    account_id: int = 31,
    offset: int | None = None,
    commit_us: int | None = None,
) -> TransactionRecord:
    """A transaction `at_us` after START_US. By default the commit time is the time of the booking, and lsn and offset follow the id."""
    booked_us = START_US + at_us
    return TransactionRecord(
        op=op, transaction_id=transaction_id, account_id=account_id, customer_id=customer_id, type=kind, amount=amount,
        currency=currency, status=status, channel="card", merchant_id=None, merchant_category=None,
        counterparty_account=counterparty, country_code=country, latitude=None, longitude=None, device_id=None,
        description=None, booked_at=format_us(booked_us), created_at=None, account={"currency": currency},
        source=Source(
            topic="bank.public.transactions", partition=2, offset=transaction_id if offset is None else offset,
            lsn=100 * transaction_id if lsn is None else lsn, tx_id=1,
            commit_time=format_us(booked_us if commit_us is None else START_US + commit_us),
        ),
    )  # fmt: skip


def naive_windows(rows: Iterable[TransactionRecord], current: TransactionRecord) -> dict[str, Window]:
    """The windows of one row among the given rows, computed with Decimal and sets."""
    end = parse_us(current.booked_at)
    timed = [(parse_us(row.booked_at), row) for row in rows]
    windows = {}
    for name, length_us in WINDOWS_US.items():
        inside = [row for time_us, row in timed if end - length_us < time_us <= end]
        counted = [row for row in inside if row.status not in ("declined", "reversed")]
        amounts = [Decimal(row.amount) for row in counted if row.currency == current.currency]
        total = sum(amounts, Decimal(0))
        average = total / len(amounts) if amounts else Decimal(0)
        windows[name] = Window(
            count=len(counted),
            sum=str(total.quantize(CENT)),
            average=str(average.quantize(CENT, ROUND_HALF_EVEN)),
            max=str(max(amounts, default=Decimal(0)).quantize(CENT)),
            distinct_counterparties=len({row.counterparty_account for row in counted} - {None}),
            distinct_countries=len({row.country_code for row in counted} - {None}),
            declined_count=sum(row.status == "declined" for row in inside),
        )
    return windows
