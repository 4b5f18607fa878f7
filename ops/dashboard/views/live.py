"""Shows the volume and the credit/debit split of the last minutes."""

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import streamlit as st

from ops.dashboard import charts, components, data, lists, records
from ops.dashboard.access import query_cache
from ops.dashboard.staleness import LIVE_S, read_at, value_or_notice

STALE_S: Final = 60
"""After this time without a new row, the page says that the stream stands still."""


def show() -> None:
    """Draws the page."""
    st.title("Live volume")
    minutes = st.segmented_control(
        "Window", [5, 15, 60], default=15, format_func=lambda n: f"{n} min", label_visibility="collapsed", key="minutes"
    )
    _show(int(minutes or 15))


@st.fragment(run_every=LIVE_S)
def _show(minutes: int) -> None:
    answer = query_cache().get(data.live, minutes, every_s=LIVE_S - 1)
    found = value_or_notice(answer, "Transactions")
    if found is None:
        if answer.fresh:
            st.html(f'<div class="empty">No transaction of the last {minutes} minutes has landed.</div>')
        return
    if answer.fresh:
        st.html(_state(found, read_at(answer)))
    count = {side: sum(one.count for one in found.slices if one.type == side) for side in ("credit", "debit")}
    total = sum(count.values())
    seconds = max((found.until - found.began).total_seconds(), 1)
    share = Decimal(100 * count["credit"]) / total if total else Decimal(0)
    st.html(
        components.kpis(
            components.kpi(f"Transactions, {minutes} min", f"{total:,}", f"{total / seconds:.1f} a second on average"),
            components.kpi("Credits", f"{count['credit']:,}", f"{share:.1f} % of all", "credit"),
            components.kpi(
                "Debits", f"{count['debit']:,}", f"{100 - share:.1f} % of all" if total else "none", "debit"
            ),
            components.kpi("Currencies", str(len({one.currency for one in found.slices})), _currencies(found)),
        )
    )
    st.subheader("Transactions")
    st.altair_chart(charts.volume(found), width="stretch", theme=None)
    _amounts(found)
    st.subheader("Newest bookings")
    st.html(lists.transactions(found.newest))


def _state(found: records.Live, at: datetime) -> str:
    behind = at - found.until
    still = behind > timedelta(seconds=STALE_S)
    colour, verdict = (components.ALARM, " The stream has stopped.") if still else (charts.CREDIT, "")
    text = (
        f"As of {components.clock(at)} UTC. The newest row is of {components.clock(found.until)}, "
        f"{components.age(behind)} earlier.{verdict} Pending and posted transactions count."
    )
    return f'<div class="state"><span class="dot" style="background:{colour}"></span><span>{text}</span></div>'


def _currencies(found: records.Live) -> str:
    counts: Counter[str] = Counter()
    for one in found.slices:
        counts[one.currency] += one.count
    return ", ".join(name for name, _ in counts.most_common(4))


def _amounts(found: records.Live) -> None:
    counts: Counter[str] = Counter()
    for one in found.slices:
        counts[one.currency] += one.count
    if not counts:
        return
    st.subheader("Amounts")
    names = [name for name, _ in counts.most_common()]
    currency = (
        st.segmented_control("Currency", names, default=names[0], label_visibility="collapsed", key="currency")
        or names[0]
    )
    sums = {
        side: sum((one.amount for one in found.slices if one.type == side and one.currency == currency), Decimal(0))
        for side in ("credit", "debit")
    }
    net = sums["credit"] - sums["debit"]
    st.html(
        components.kpis(
            components.amount(f"Credited, {currency}", sums["credit"], "credit"),
            components.amount(f"Debited, {currency}", sums["debit"], "debit"),
            components.amount(f"Net, {currency}", net),
        )
    )
    st.altair_chart(charts.amounts(found, currency), width="stretch", theme=None)
