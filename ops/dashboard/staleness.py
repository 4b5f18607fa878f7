"""What every page says when what it shows is not the present, and how often pages ask."""

from datetime import UTC, datetime
from html import escape
from typing import Final, TypeVar

import streamlit as st

from ops.dashboard import components
from ops.dashboard.query_cache import QueryResult

Value = TypeVar("Value")

LIVE_S: Final = 5.0
"""Pages of the last minutes are drawn anew so often; an answer serves all browsers for a second less."""
SLOW_S: Final = 15.0
GOLD_S: Final = 60.0


def value_or_notice(answer: QueryResult[Value], what: str) -> Value | None:
    """The value, with a word before it if it is not the present; None (and the reason on the page) if there is none."""
    if answer.fresh:
        return answer.value
    since = components.stamp(answer.since) if answer.since else "now"
    if answer.not_built:
        st.html(
            f'<div class="wait"><b>{escape(what)} not built yet.</b> The warehouse answers, and {escape(answer.problem or "")}. '
            "<code>bankstream provision</code> makes landing tables, <code>make dbt</code> (or the schedule that runs it) makes gold.</div>"
        )
        return None
    last = (
        f"What follows is as of {components.stamp(answer.read_at)} UTC, not now."
        if answer.value is not None and answer.read_at
        else "Nothing is shown, because nothing is known."
    )
    st.html(
        f'<div class="away"><b>No answer from the warehouse since {since} UTC</b>: {escape(answer.problem or "")}. {last}</div>'
    )
    return answer.value


def as_of(answer: QueryResult[Value]) -> None:
    """When the value was read. Says nothing if it is not the present: `value_or_notice` has said it then."""
    if answer.fresh:
        st.html(f'<div class="state">As of {components.clock(read_at(answer))} UTC.</div>')


def read_at(answer: QueryResult[Value]) -> datetime:
    """When the value was read, naive UTC as all times of the warehouse: ages are as of then, not as of when they are drawn."""
    moment = answer.read_at or datetime.now(UTC)
    return moment.astimezone(UTC).replace(tzinfo=None)
