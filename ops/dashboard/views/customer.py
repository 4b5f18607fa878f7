"""Shows one customer: versions and alerts beside transactions."""

import re
from decimal import Decimal
from html import escape
from typing import Final

import streamlit as st

from ops.dashboard import components, data, lists, records
from ops.dashboard.access import query_cache, shows_personal_data
from ops.dashboard.staleness import LIVE_S, SLOW_S, as_of, value_or_notice

FIRST_SHOWN: Final = ("country_code", "kyc_status", "risk_rating")
"""The columns shown for the first version of a history."""
WINDOWS: Final = {"1h": "Transactions, 1 hour", "24h": "Transactions, 24 hours", "30d": "Transactions, 30 days"}


def show() -> None:
    """Draws the page."""
    st.title("Customer")
    asked = st.text_input("Customer number", value=st.query_params.get("id", ""), placeholder="for example 42")
    if not asked:
        st.html('<div class="empty">Enter a customer number, or follow the link of an alert or a transaction.</div>')
    elif not re.fullmatch(r"[0-9]{1,18}", asked):
        st.html('<div class="wait">A customer number has digits only, at most 18.</div>')
    else:
        _show(int(asked))


@st.fragment(run_every=SLOW_S)
def _show(customer_id: int) -> None:
    answer = query_cache().get(data.customer, customer_id, every_s=LIVE_S)
    found = value_or_notice(answer, "History")
    if found is None:
        if answer.fresh:
            st.html(f'<div class="empty">The warehouse has no customer {customer_id}.</div>')
        return
    newest = found.versions[0]
    as_of(answer)
    st.html(_who(customer_id, newest))
    st.html(
        components.kpis(
            components.kpi("Risk rating", str(newest.attributes.get("risk_rating") or "none")),
            components.kpi("Identity check", str(newest.attributes.get("kyc_status") or "none")),
            *(_window(found.velocity, name, title) for name, title in WINDOWS.items() if found.velocity),
        )
    )
    if found.velocity:
        st.html(
            f'<div class="state">The windows end with the transaction of {components.stamp(found.velocity.at)} UTC. '
            f"Sums are of credits and debits in {escape(found.velocity.currency)}, the currency of that transaction.</div>"
        )
    none = '<div class="empty">None.</div>'
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("History")
        st.html("".join(_version(one) for one in found.versions))
        st.subheader(f"Alerts of the last {data.CUSTOMER_DAYS} days")
        st.html(lists.alerts_of_one(found.alerts) if found.alerts else none)
    with right:
        st.subheader(f"Transactions changed in the last {data.CUSTOMER_DAYS} days")
        st.html(lists.transactions_of_one(found.transactions) if found.transactions else none)


def _window(velocity: records.Velocity, name: str, title: str) -> str:
    window = velocity.windows[name]
    declined = f", {window['declined_count']} declined" if window["declined_count"] else ""
    return components.kpi(
        title, f"{window['count']:,}", f"{components.money(Decimal(window['sum']))} {velocity.currency}{declined}"
    )


def _who(customer_id: int, newest: records.Version) -> str:
    gone = (
        f"no current version since {components.stamp(newest.valid_to)} UTC ({newest.close_reason})"
        if newest.valid_to
        else "current"
    )
    country = f"country {_shown('country_code', newest.attributes.get('country_code'))}"
    if not shows_personal_data():
        return _heading(f"Customer {customer_id}", gone, country, "personal data is masked")
    city = f"{_shown('city', newest.attributes.get('city'))}, {country}"
    name = str(newest.attributes.get("name") or "no name")
    return _heading(name, f"customer {customer_id}", gone, _shown("email", newest.attributes.get("email")), city)


def _heading(text: str, *facts: str) -> str:
    return f'<div class="who">{escape(text)}</div><div class="state">{escape(" · ".join(facts))}</div>'


def _version(one: records.Version) -> str:
    until = f"to {components.stamp(one.valid_to)} UTC, {one.close_reason}" if one.valid_to else "UTC, current"
    changes = "".join(
        _change(column, old, new) for column, old, new in one.changed if column not in ("updated_at", "created_at")
    )
    if not one.changed:
        facts = (f"{column} {_shown(column, one.attributes.get(column))}" for column in FIRST_SHOWN)
        changes = f"<div>{escape(' · '.join(facts))}</div>"
    return (
        f'<div class="version {"" if one.valid_to else "current"}"><div class="head">{escape(one.reason)}</div>'
        f'<div class="dim">from {components.stamp(one.valid_from)} {escape(until)}</div>{changes}</div>'
    )


def _change(column: str, old: str, new: str) -> str:
    if (told := _shown(column, new)) == components.HIDDEN:
        return f'<div>{escape(column)}: <span class="dim">changed, masked</span></div>'
    return (
        f'<div>{escape(column)}: <span class="old">{escape(_shown(column, old))}</span> → '
        f'<span class="new">{escape(told)}</span></div>'
    )


def _shown(column: str, value: object) -> str:
    return components.masked(column, value, show=shows_personal_data())
