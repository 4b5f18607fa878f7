"""Draws the charts. Only here amounts become floats, for drawing; labels and tooltips have the exact decimal text."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import altair as alt
import pandas as pd

from ops.dashboard.components import money
from ops.dashboard.records import Live, RuleCount, Slice, Total

CREDIT: Final = "#0f766e"
DEBIT: Final = "#c2570c"
SIDES: Final = alt.Scale(domain=["credit", "debit"], range=[CREDIT, DEBIT])
LEGEND: Final = alt.Legend(title=None, orient="top", direction="horizontal", symbolType="square", offset=4)
GROUND: Final = "#fbfaf7"
GRID: Final = "#e6e1d6"
WORDS: Final = "#3d4a53"


def _finish(chart: Any, height: int) -> Any:
    return (
        chart.properties(height=height, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=GRID, domainColor="#b9b3a5", tickColor="#b9b3a5", labelColor=WORDS, titleColor=WORDS, labelFontSize=12,
            titleFontSize=12, titleFontWeight="normal",
        )
        .configure_legend(labelColor=WORDS, labelFontSize=13)
    )  # fmt: skip


def slices(found: Live, measure: Callable[[Slice], Decimal]) -> list[tuple[datetime, Decimal, Decimal]]:
    """Returns credits and debits of each complete slice up to the newest landed row. A slice without transactions is zero, not missing."""
    sums: dict[tuple[datetime, str], Decimal] = defaultdict(Decimal)
    for one in found.slices:
        sums[one.at, one.type] += measure(one)
    at, step, lines = found.began, timedelta(seconds=found.slice_s), []
    while at + step <= found.until:
        lines.append((at, sums[at, "credit"], sums[at, "debit"]))
        at += step
    return lines


def volume(found: Live) -> Any:
    """Returns a chart of the transactions in each slice, debits stacked on credits."""
    bars = []
    for at, credits_, debits in slices(found, lambda one: Decimal(one.count)):
        bars.append(_bar(found, at, "credit", Decimal(0), credits_) | {"text": str(credits_)})
        bars.append(_bar(found, at, "debit", credits_, credits_ + debits) | {"text": str(debits)})
    axis = alt.Axis(tickCount=4, format="d")
    return _bars(found, bars, f"transactions in {found.slice_s} s", axis, "transactions")


def amounts(found: Live, currency: str) -> Any:
    """Returns a chart of amounts, credits above and debits below the line."""
    bars = []
    chosen = replace(found, slices=tuple(one for one in found.slices if one.currency == currency))
    for at, credits_, debits in slices(chosen, lambda one: one.amount):
        bars.append(_bar(found, at, "credit", Decimal(0), credits_) | {"text": f"{money(credits_)} {currency}"})
        bars.append(_bar(found, at, "debit", -debits, Decimal(0)) | {"text": f"{money(debits)} {currency}"})
    axis = alt.Axis(tickCount=5, labelExpr="format(abs(datum.value), '~s')")
    return _bars(found, bars, f"{currency} in {found.slice_s} s, debits below", axis, "amount")


def _bar(found: Live, at: datetime, side: str, low: Decimal, high: Decimal) -> dict[str, Any]:
    """Returns a bar. Times carry UTC, or a browser would interpret them as local; they are also text, because tooltips cannot show UTC."""
    end = at + timedelta(seconds=found.slice_s)
    return {
        "at": at.replace(tzinfo=UTC), "end": end.replace(tzinfo=UTC), "clock": f"{at:%H:%M:%S} to {end:%H:%M:%S}",
        "side": side, "low": float(low), "high": float(high),
    }  # fmt: skip


def _bars(found: Live, bars: list[dict[str, Any]], title: str, axis: Any, measured: str) -> Any:
    frame = pd.DataFrame(bars, columns=["at", "end", "clock", "side", "low", "high", "text"])
    scale = alt.Scale(domain=[_utc(found.began), _utc(found.until)], type="utc")
    tooltip = [
        alt.Tooltip("clock:N", title="UTC"),
        alt.Tooltip("side:N", title=" "),
        alt.Tooltip("text:N", title=measured),
    ]
    return _finish(
        alt.Chart(frame)
        .mark_rect(stroke=GROUND, strokeWidth=1)
        .encode(
            x=alt.X("at:T", title="UTC", scale=scale, axis=alt.Axis(format="%H:%M", tickCount=6, grid=False)),
            x2="end:T",
            y=alt.Y("low:Q", title=title, axis=axis),
            y2="high:Q",
            color=alt.Color("side:N", scale=SIDES, legend=LEGEND),
            tooltip=tooltip,
        ),
        250,
    )


def _utc(moment: datetime) -> alt.DateTime:
    return alt.DateTime(
        year=moment.year, month=moment.month, date=moment.day, hours=moment.hour, minutes=moment.minute, seconds=moment.second, utc=True
    )  # fmt: skip


def rules(counts: Sequence[RuleCount], colours: Mapping[str, str]) -> Any:
    """Returns a chart of alerts by rule, coloured by severity."""
    frame = pd.DataFrame([{"rule": one.rule, "severity": one.severity, "alerts": one.alerts} for one in counts])
    return _finish(
        alt.Chart(frame)
        .mark_bar(height={"band": 0.7})
        .encode(
            y=alt.Y("rule:N", sort="-x", title=None, axis=alt.Axis(labelLimit=170)),
            x=alt.X("alerts:Q", title="alerts", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            color=alt.Color(
                "severity:N",
                scale=alt.Scale(domain=list(colours), range=list(colours.values())),
                legend=LEGEND,
            ),
            tooltip=["rule:N", "severity:N", "alerts:Q"],
        ),
        max(120, 30 * frame["rule"].nunique() + 60),
    )


def totals(found: Sequence[Total], currency: str, dimension: str) -> Any:
    """Returns a chart of amounts by a dimension, credit and debit side by side."""
    frame = pd.DataFrame(
        [
            {
                "name": one.name,
                "side": side,
                "exact": f"{money(amount)} {currency}",
                "drawn": float(amount),
                "count": count,
            }
            for one in found
            for side, amount, count in (
                ("credit", one.credit_amount, one.credit_count),
                ("debit", one.debit_amount, one.debit_count),
            )
        ]
    )
    amount = alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=5)
    tooltip = [
        alt.Tooltip("name:N", title=dimension), "side:N", alt.Tooltip("exact:N", title="amount"),
        alt.Tooltip("count:Q", title="transactions"),
    ]  # fmt: skip
    colour = alt.Color("side:N", scale=SIDES, legend=LEGEND)
    if dimension == "day":
        chart = alt.Chart(frame).mark_bar().encode(
            x=alt.X("name:O", title="day, UTC", axis=alt.Axis(labelAngle=-40, labelOverlap=True)),
            xOffset="side:N", y=alt.Y("drawn:Q", title=f"amount, {currency}", axis=amount), color=colour, tooltip=tooltip,
        )  # fmt: skip
        return _finish(chart, 300)
    chart = alt.Chart(frame).mark_bar().encode(
        y=alt.Y("name:N", title=None, sort=[one.name for one in found], axis=alt.Axis(labelLimit=130)),
        yOffset="side:N", x=alt.X("drawn:Q", title=f"amount, {currency}", axis=amount), color=colour, tooltip=tooltip,
    )  # fmt: skip
    return _finish(chart, max(160, 30 * len(found) + 70))
