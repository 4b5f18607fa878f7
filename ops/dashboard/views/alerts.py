"""Shows the alerts: rules that fired, how often, and why."""

from collections import Counter

import streamlit as st

from ops.dashboard import charts, components, data, lists
from ops.dashboard.access import query_cache
from ops.dashboard.staleness import LIVE_S, as_of, value_or_notice


def show() -> None:
    """Draws the page."""
    st.title("Alerts")
    hours = st.segmented_control(
        "Window", [1, 24, 168], default=24, format_func=lambda n: {1: "1 hour", 24: "24 hours", 168: "7 days"}[n],
        label_visibility="collapsed", key="hours",
    )  # fmt: skip
    _show(int(hours or 24))


@st.fragment(run_every=LIVE_S)
def _show(hours: int) -> None:
    answer = query_cache().get(data.alerts, hours, every_s=LIVE_S - 1)
    found = value_or_notice(answer, "Alerts")
    if found is None:
        return
    as_of(answer)
    if not found.newest:
        st.html('<div class="empty">No rule fired in this time.</div>')
        return
    severities: Counter[str] = Counter()
    for one in found.counts:
        severities[one.severity] += one.alerts
    rules = len({one.rule for one in found.counts})
    newest = found.newest[0].detected_at
    st.html(
        components.kpis(
            components.kpi("Alerts", f"{severities.total():,}", f"of {rules} rules" if rules > 1 else "of one rule"),
            components.kpi(
                "Critical and high", f"{severities['critical'] + severities['high']:,}", _of_all(severities)
            ),
            components.kpi("Customers", f"{found.customers:,}", "with an alert"),
            components.kpi("Newest", components.clock(newest), f"{newest:%Y-%m-%d}, UTC"),
        )
    )
    st.subheader("By rule")
    st.altair_chart(charts.rules(found.counts, components.SEVERITIES), width="stretch", theme=None)
    st.subheader("Newest alerts")
    st.html(lists.alerts(found.newest))
    if severities.total() > len(found.newest):
        st.html(
            f'<div class="empty">The list has the newest {len(found.newest)} of {severities.total():,} alerts.</div>'
        )


def _of_all(severities: Counter[str]) -> str:
    return f"{100 * (severities['critical'] + severities['high']) / severities.total():.0f} % of all"
