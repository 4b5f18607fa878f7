"""Volumes of past days, from gold."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import streamlit as st

from ops.dashboard import charts, data, parts, records
from ops.dashboard.access import desk
from ops.dashboard.knowing import GOLD_S, known


def show() -> None:
    """What the navigation runs."""
    st.title("History")
    _show()


@st.fragment(run_every=GOLD_S)
def _show() -> None:
    choice = known(desk().ask(data.currencies, every_s=GOLD_S - 1), "Gold is")
    if choice is None:
        return
    if not choice:
        st.html('<div class="empty">Gold is built and holds no transaction.</div>')
        return
    one, two, three = st.columns(3)
    today = datetime.now(UTC).date()
    dimension = one.selectbox("By", list(data.DIMENSIONS))
    currency = two.selectbox("Currency", choice)
    span = three.date_input("Days", (today - timedelta(days=30), today), max_value=today)
    if isinstance(span, tuple) and len(span) == 2:
        _volumes(dimension, currency, span[0], span[1])


def _volumes(dimension: str, currency: str, first: date, last: date) -> None:
    answer = desk().ask(data.history, dimension, currency, first, last, every_s=GOLD_S - 1)
    found = known(answer, "Gold is")
    if found is None:
        return
    if not found.totals:
        st.html('<div class="empty">No transaction in these days.</div>')
        return
    reaches = desk().ask(data.gold_reaches, every_s=GOLD_S - 1)
    if reaches.fresh and reaches.value:
        st.html(
            f'<div class="state">From gold, which reaches to {parts.stamp(reaches.value)} UTC. Pending and posted transactions.</div>'
        )
    st.html(
        parts.kpis(
            parts.kpi("Transactions", f"{found.count:,}", f"{first} to {last}"),
            parts.amount(f"Credited, {currency}", found.credit_amount, "credit"),
            parts.amount(f"Debited, {currency}", found.debit_amount, "debit"),
        )
    )
    if found.groups > len(found.totals):
        st.html(
            f'<div class="state">The chart has the largest {len(found.totals)} of {found.groups:,}; the figures above are of all.</div>'
        )
    st.altair_chart(charts.totals(found.totals, currency, dimension), width="stretch", theme=None)
    with st.expander("As a table"):
        st.table(_table(found.totals, currency))


def _table(found: tuple[records.Total, ...], currency: str) -> list[dict[str, Any]]:
    return [
        {
            "": one.name, "credits": f"{one.credit_count:,}", f"credited, {currency}": parts.money(one.credit_amount),
            "debits": f"{one.debit_count:,}", f"debited, {currency}": parts.money(one.debit_amount),
        }
        for one in found
    ]  # fmt: skip
