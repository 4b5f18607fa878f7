"""Shows on every page how old its data is and why there is no newer, and defines how often pages query."""

from datetime import UTC, datetime
from html import escape
from typing import Final, TypeVar

import streamlit as st

from ops.dashboard import components
from ops.dashboard.query_cache import QueryResult

Value = TypeVar("Value")

LIVE_S: Final = 5.0
"""The refresh interval of the live pages. A cached result serves all browsers for one second less."""
SLOW_S: Final = 15.0
GOLD_S: Final = 60.0


def value_or_notice(answer: QueryResult[Value], what: str) -> Value | None:
    """Returns the value, after a notice on the page if it is not current; None, with the reason on the page, if there is none."""
    if answer.fresh:
        return answer.value
    since = components.stamp(answer.since) if answer.since else "now"
    if answer.not_built:
        st.html(
            f'<div class="wait"><b>{escape(what)}: not built yet.</b> The warehouse answers, but {escape(answer.problem or "")}. '
            "<code>bankstream provision warehouse</code> creates the landing tables. "
            "<code>make dbt</code> (or its schedule) builds gold.</div>"
        )
        return None
    last = (
        f"The page shows the data of {components.stamp(answer.read_at)} UTC."
        if answer.value is not None and answer.read_at
        else "The page has no earlier data to show."
    )
    st.html(
        f'<div class="away"><b>No data from the warehouse since {since} UTC</b>: {escape(answer.problem or "")}. {last}</div>'
    )
    return answer.value


def as_of(answer: QueryResult[Value]) -> None:
    """Shows when the value was read. If it is not current, `value_or_notice` has shown the time already."""
    if answer.fresh:
        st.html(f'<div class="state">As of {components.clock(read_at(answer))} UTC.</div>')


def read_at(answer: QueryResult[Value]) -> datetime:
    """Returns when the value was read, as naive UTC like all times of the warehouse. Ages refer to this time, not to the drawing."""
    moment = answer.read_at or datetime.now(UTC)
    return moment.astimezone(UTC).replace(tzinfo=None)
