"""Renders the lists of transactions and alerts that several pages share."""

from collections.abc import Iterable
from html import escape

from ops.dashboard import components, records


def transactions(found: Iterable[records.Transaction]) -> str:
    """Returns a list of transactions with their customers."""
    return components.rows(
        _transaction(one, components.clock(one.booked_at), components.customer_link(one.customer_id)) for one in found
    )


def transactions_of_one(found: Iterable[records.Transaction]) -> str:
    """Returns a list of one customer's transactions, with days."""
    return components.rows(
        _transaction(one, f"{one.booked_at:%m-%d}<br>{components.clock(one.booked_at)}", f"account {one.account_id:d}")
        for one in found
    )


def _transaction(one: records.Transaction, when: str, who: str) -> str:
    """Renders a transaction. One that moved no money (declined, reversed) is struck through."""
    sign = "+" if one.type == "credit" else "\u2212"
    look = one.type if one.status in ("pending", "posted") else "void"
    where = " · ".join(part for part in (one.channel, one.merchant_id, one.country_code, one.status) if part)
    return (
        f'<div class="row money"><span class="when">{when}</span>'
        f'<span>{who} <span class="dim">{escape(where)}</span></span>'
        f'<span class="num {escape(look)}">{sign}{components.money(one.amount)} {escape(one.currency)}</span></div>'
    )


def alerts(found: Iterable[records.Alert]) -> str:
    """Returns a list of alerts with their explanations and customers."""
    return components.rows(_alert(one, components.customer_link(one.customer_id)) for one in found)


def alerts_of_one(found: Iterable[records.Alert]) -> str:
    """Returns a list of one customer's alerts."""
    return components.rows(_alert(one, f"account {one.account_id:d}") for one in found)


def _alert(one: records.Alert, who: str) -> str:
    facts = " · ".join(f"{name} {value}" for name, value in one.features.items() if not isinstance(value, dict | list))
    return (
        f'<div class="row alert"><span class="when">{one.detected_at:%m-%d}<br>{components.clock(one.detected_at)}</span>'
        f"<span>{components.badge(one.severity)}<b>{escape(one.rule)}</b></span><span>{who}</span>"
        f'<span class="why">{escape(one.explanation)}</span>'
        f'<span class="facts">transaction {one.transaction_id:d} · score {escape(one.score)} · {escape(facts)}</span></div>'
    )
