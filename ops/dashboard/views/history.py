"""Shows the volumes of past days, from gold."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import streamlit as st

from ops.dashboard import charts, components, data, records
from ops.dashboard.access import query_cache
from ops.dashboard.staleness import GOLD_S, value_or_notice


def show() -> None:
    """Draws the page."""
    st.title("History")
    _show()


@st.fragment(run_every=GOLD_S)
def _show() -> None:
    choice = value_or_notice(query_cache().get(data.currencies, every_s=GOLD_S - 1), "Gold")
    if choice is None:
        return
    if not choice:
        st.html('<div class="empty">Gold is built but has no transactions.</div>')
        return
    one, two, three = st.columns(3)
    today = datetime.now(UTC).date()
    dimension = one.selectbox("By", list(data.DIMENSIONS))
    currency = two.selectbox("Currency", choice)
    span = three.date_input("Days", (today - timedelta(days=30), today), max_value=today)
    if isinstance(span, tuple) and len(span) == 2:
        _volumes(dimension, currency, span[0], span[1])


def _volumes(dimension: str, currency: str, first: date, last: date) -> None:
    answer = query_cache().get(data.history, dimension, currency, first, last, every_s=GOLD_S - 1)
    found = value_or_notice(answer, "Gold")
    if found is None:
        return
    if not found.totals:
        st.html('<div class="empty">No transaction in these days.</div>')
        return
    reaches = query_cache().get(data.gold_reaches, every_s=GOLD_S - 1)
    if reaches.fresh and reaches.value:
        st.html(
            '<div class="state">Pending and posted transactions in gold. '
            f"The newest change in gold is of {components.stamp(reaches.value)} UTC.</div>"
        )
    st.html(
        components.kpis(
            components.kpi("Transactions", f"{found.count:,}", f"{first} to {last}"),
            components.amount(f"Credited, {currency}", found.credit_amount, "credit"),
            components.amount(f"Debited, {currency}", found.debit_amount, "debit"),
        )
    )
    if found.groups > len(found.totals):
        st.html(
            f'<div class="state">The chart has the largest {len(found.totals)} of {found.groups:,}. '
            "The figures above are totals of all.</div>"
        )
    st.altair_chart(charts.totals(found.totals, currency, dimension), width="stretch", theme=None)
    with st.expander("As a table"):
        st.table(_table(found.totals, currency))


def _table(found: tuple[records.Total, ...], currency: str) -> list[dict[str, Any]]:
    return [
        {
            "": one.name, "credits": f"{one.credit_count:,}", f"credited, {currency}": components.money(one.credit_amount),
            "debits": f"{one.debit_count:,}", f"debited, {currency}": components.money(one.debit_amount),
        }
        for one in found
    ]  # fmt: skip
