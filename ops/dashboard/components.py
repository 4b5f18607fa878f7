"""Formats text, numbers and small pieces of HTML for the pages. All text is escaped."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from typing import Final

from app.web.masking import UNMASKED_COLUMNS

SEVERITIES: Final = {"critical": "#9f1239", "high": "#c2570c", "medium": "#8a6d1d", "low": "#3b5b92"}
ALARM: Final = "#9f1239"
HIDDEN: Final = "•••"

STYLE: Final = """
<style>
.block-container, [data-testid="stMainBlockContainer"] { padding-top: 4.2rem; max-width: 1180px; }
[data-stale="true"] { opacity: 1 !important; }
.kpis { display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: .7rem; margin: .2rem 0 .4rem; }
.kpi { background: #fff; border: 1px solid #ddd8cc; border-top: 3px solid #ddd8cc; border-radius: 6px; padding: .7rem .9rem .75rem; }
.kpi .name { font-size: .78rem; color: #55626b; letter-spacing: .01em; }
.kpi .value { font-size: 1.6rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.kpi .note { font-size: .78rem; color: #55626b; }
.kpi.credit { border-top-color: #0f766e; } .kpi.debit { border-top-color: #c2570c; }
.who { font-size: 1.3rem; font-weight: 600; }
.state { font-size: .85rem; color: #55626b; display: flex; gap: .5rem; align-items: baseline; }
.dot { width: .6rem; height: .6rem; border-radius: 50%; display: inline-block; flex: none; align-self: center; }
.away { border-left: 4px solid #9f1239; background: #fbeef0; padding: .7rem .9rem; border-radius: 4px; color: #17252f; }
.wait { border-left: 4px solid #8a6d1d; background: #f8f2df; padding: .7rem .9rem; border-radius: 4px; color: #17252f; }
.empty { color: #55626b; padding: 1.2rem 0; }
.split { display: flex; height: 1.1rem; border-radius: 4px; overflow: hidden; gap: 2px; margin: .15rem 0 .3rem; }
.rows { display: flex; flex-direction: column; }
.row { display: grid; gap: .1rem .9rem; padding: .6rem 0; border-bottom: 1px solid #e6e1d6; align-items: baseline; }
.row .when, .row .dim { color: #55626b; font-size: .82rem; font-variant-numeric: tabular-nums; }
.row .num { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; font-weight: 600; }
.row .num.credit { color: #0f766e; } .row .num.debit { color: #b04d08; }
.row .num.void { color: #55626b; font-weight: 400; text-decoration: line-through; }
.row a { color: #0b5c66; }
.alert { grid-template-columns: 5.2rem minmax(0, 1fr) auto; }
.alert .when { grid-row: 1 / span 3; align-self: start; }
.alert .why { grid-column: 2 / -1; } .alert .facts { grid-column: 2 / -1; color: #55626b; font-size: .82rem; overflow-wrap: anywhere; }
.money { grid-template-columns: 5.2rem minmax(0, 1fr) auto; }
.topic { grid-template-columns: minmax(0, 1.6fr) repeat(3, minmax(0, 1fr)); }
.topic .dim { text-align: right; }
.badge { color: #fff; font-size: .74rem; border-radius: 3px; padding: .08rem .42rem; margin-right: .4rem; white-space: nowrap; }
.version { border-left: 2px solid #0b5c66; padding: 0 0 1rem .9rem; margin-left: .3rem; position: relative; }
.version::before { content: ""; position: absolute; left: -6px; top: .35rem; width: 10px; height: 10px; border-radius: 50%;
  background: #fbfaf7; border: 2px solid #0b5c66; }
.version.current::before { background: #0b5c66; }
.version .head { font-weight: 600; } .version .dim { color: #55626b; font-size: .82rem; }
.version .old { color: #55626b; text-decoration: line-through; overflow-wrap: anywhere; } .version .new { overflow-wrap: anywhere; }
@media (max-width: 640px) {
  .kpis { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem; }
  .kpi { padding: .55rem .65rem; } .kpi .value { font-size: 1.25rem; }
  .alert, .money { grid-template-columns: 4rem minmax(0, 1fr) auto; column-gap: .5rem; }
  .topic { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); } .topic .dim { text-align: left; } .topic .head { grid-column: 1 / -1; }
}
</style>
"""


def money(amount: Decimal) -> str:
    """Returns the exact amount with thousands separators and two decimals.

    >>> money(Decimal("1234567.5"))
    '1,234,567.50'
    """
    return f"{amount:,.2f}"


def short_money(amount: Decimal) -> str:
    """Returns an amount for a headline: at most five characters and a unit.

    >>> short_money(Decimal("1234567.5"))
    '1.23 M'
    """
    for unit, size in (("bn", Decimal(10**9)), ("M", Decimal(10**6)), ("k", Decimal(10**3))):
        if abs(amount) >= size:
            return f"{amount / size:.2f} {unit}"
    return money(amount)


def amount(name: str, value: Decimal, kind: str = "") -> str:
    """Returns a card with an amount: the short form in large letters, the exact one below."""
    short, exact = short_money(value), money(value)
    return kpi(name, short, exact if exact != short else "", kind)


def clock(moment: datetime) -> str:
    """Returns the time of day, UTC."""
    return f"{moment:%H:%M:%S}"


def stamp(moment: datetime) -> str:
    """Returns the day and the time, UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def age(span: timedelta) -> str:
    """Returns an age in its largest units.

    >>> age(timedelta(seconds=75))
    '1 min 15 s'
    """
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3_600} h {seconds % 3_600 // 60} min" if seconds < 172_800 else f"{seconds // 86_400} days"


def masked(column: str, value: object, *, show: bool) -> str:
    """Returns a customer's attribute, masked unless the lookup API shows the column to all clients or `show` is true.

    >>> masked("email", "ada@example.org", show=False), masked("risk_rating", "low", show=False)
    ('•••', 'low')
    """
    if show or column in UNMASKED_COLUMNS["customers"]:
        return "none" if value is None else str(value)
    return HIDDEN


def kpi(name: str, value: str, note: str = "", kind: str = "") -> str:
    """Returns a card with one figure."""
    return (
        f'<div class="kpi {kind}"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="note">{escape(note)}</div></div>'
    )


def kpis(*cards: str) -> str:
    """Returns a row of cards; a phone shows two side by side."""
    return f'<div class="kpis">{"".join(cards)}</div>'


def badge(severity: str) -> str:
    """Returns a severity as coloured text."""
    return f'<span class="badge" style="background:{SEVERITIES.get(severity, "#55626b")}">{escape(severity)}</span>'


def customer_link(customer_id: int) -> str:
    """Returns a link to the customer's page."""
    return f'<a href="customer?id={customer_id:d}" target="_self">customer {customer_id:d}</a>'


def rows(lines: Iterable[str]) -> str:
    """Returns a list of lines."""
    return f'<div class="rows">{"".join(lines)}</div>'
