"""Shows freshness by topic, the newest change in gold, and dead letters."""

from datetime import datetime
from html import escape

import streamlit as st

from ops.dashboard import components, data, records
from ops.dashboard.access import landing, query_cache
from ops.dashboard.staleness import SLOW_S, as_of, read_at, value_or_notice


def show() -> None:
    """Draws the page."""
    st.title("Pipeline health")
    _show()


@st.fragment(run_every=SLOW_S)
def _show() -> None:
    answer = query_cache().get(data.health, landing(), every_s=SLOW_S - 1)
    found = value_or_notice(answer, "Landing tables")
    now = read_at(answer)
    if found is not None:
        as_of(answer)
    if found is not None and not found.topics:
        st.html('<div class="empty">No record has been loaded into this warehouse.</div>')
    elif found is not None:
        rows = [topic.newest_row for topic in found.topics if topic.newest_row]
        loads = [topic.loaded_at for topic in found.topics if topic.loaded_at]
        letters = sum(one.count for one in found.dead_letters)
        st.html(
            components.kpis(
                components.kpi(
                    "Newest row", f"{components.age(now - max(rows))} ago" if rows else "more than a day ago"
                ),
                components.kpi("Last load", f"{components.age(now - max(loads))} ago" if loads else "never"),
                components.kpi(
                    "Dead letters, 24 h",
                    f"{letters:,}",
                    "no record was refused" if not letters else "listed below",
                    "debit" if letters else "",
                ),
                _gold(now),
            )
        )
        st.subheader("By topic")
        st.html(components.rows(_topic(one, now) for one in found.topics))
        st.subheader("Dead letters, last 24 hours")
        st.html(
            components.rows(
                f'<div class="row money"><span class="num" style="text-align:left">{one.count:,}</span><span>{escape(one.reason)} '
                f'<span class="dim">{escape(one.topic)}</span></span><span class="dim">{components.age(now - one.newest)} ago</span></div>'
                for one in found.dead_letters
            )
            if found.dead_letters
            else '<div class="empty">None.</div>'
        )


def _gold(now: datetime) -> str:
    answer = query_cache().get(data.gold_reaches, every_s=SLOW_S - 1)
    if answer.not_built:
        return components.kpi("Gold", "not built", "run make dbt")
    if not answer.fresh:
        return components.kpi("Gold", "unknown", answer.problem or "")
    return components.kpi(
        "Newest change in gold",
        f"{components.age(now - answer.value)} ago" if answer.value else "none",
        "" if answer.value else "gold is empty",
    )


def _topic(one: records.TopicHealth, now: datetime) -> str:
    newest = f"row {components.age(now - one.newest_row)} ago" if one.newest_row else "no row in 24 h"
    partitions = "1 partition" if one.partitions == 1 else f"{one.partitions} partitions"
    loaded = f"loaded {components.age(now - one.loaded_at)} ago" if one.loaded_at else "never loaded"
    return (
        f'<div class="row topic"><span class="head"><b>{escape(one.topic)}</b></span><span class="dim">{newest}</span>'
        f'<span class="dim">{loaded}</span><span class="dim">{one.records:,} offsets, {partitions}</span></div>'
    )
