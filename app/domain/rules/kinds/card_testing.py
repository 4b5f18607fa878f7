"""Detects card testing: small payments that probe a stolen card, then a large one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from app.domain.events import AmountFilter, Event
from app.domain.money import to_decimal
from app.domain.records import Window
from app.domain.rules.fields import Fields, common_fields
from app.domain.rules.rule import (
    AMOUNT_PLACEHOLDERS,
    Prefilter,
    Rule,
    amount_placeholders,
    has_type,
)
from app.domain.rules.verdicts import EVIDENCE_MAX, Condition, Severity, Verdict
from app.domain.velocity import CustomerHistory

_PROBES: Final = 64
"""The number of probes that are read at first; more are read if there are as many."""


@dataclass(frozen=True, slots=True)
class CardTesting:
    """Fires on an amount of at least `at_least_minor` after probes: `probe_count` amounts selected by `probes` within
    `probe_window_us`, the last of them less than `window_us` before the large amount. With a `probe_count` of 1 a single probe is enough.
    """

    id: str
    severity: Severity
    explanation: str
    probes: AmountFilter
    probe_count: int
    probe_window_us: int
    at_least_minor: int
    window_us: int

    placeholders: ClassVar = AMOUNT_PLACEHOLDERS | {"probes", "probe_at_most"}

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts of the probes."""
        return (self.probes,)

    @property
    def prefilters(self) -> tuple[Prefilter, ...]:
        """The large amount, less than `window_us` after a probe."""
        return (Prefilter(self.at_least_minor, after=self.probes, after_us=self.window_us),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Fires on the large amount. The cost grows with the probes in the window, which are few unless the rule fires."""
        del windows
        facts = event.facts
        amount = Condition("amount", facts.amount_minor, self.at_least_minor, is_amount=True)
        if not amount.holds or not has_type(self.probes, event):
            return Verdict("not_fired", (amount,), {})
        probes = self._probes(event, history)
        enough = Condition("probes", len(probes), self.probe_count)
        if not enough.holds:
            return Verdict("not_fired", (amount, enough), {})
        return Verdict(
            "fired",
            (amount, enough),
            {
                **amount_placeholders(event),
                "probes": str(len(probes)),
                "probe_at_most": to_decimal(self.probes.at_most_minor),
            },
            probes[:EVIDENCE_MAX],
        )

    def _probes(self, event: Event, history: CustomerHistory) -> tuple[Event, ...]:
        """Returns the newest run of at least `probe_count` probes, or else the longest run; newest first."""
        earliest = event.time_us - self.window_us
        amounts = self.probes, event.facts.currency, max(earliest - self.probe_window_us, history.floor_us)
        limit = _PROBES
        while len(probes := history.latest_amounts(*amounts, limit)) == limit:
            limit *= 4
        best, behind = range(0), 0
        for first, probe in enumerate(probes):
            if probe.time_us <= earliest or len(best) >= self.probe_count:
                break
            while behind < len(probes) and probes[behind].time_us > probe.time_us - self.probe_window_us:
                behind += 1
            if behind - first > len(best):
                best = range(first, behind)
        return tuple(probes[number] for number in best)


def read(fields: Fields) -> Rule:
    """Creates a rule of this kind from its fields in rules.toml."""
    probes = AmountFilter(fields.types(), at_most_minor=fields.amount("probe_at_most"))
    rule = CardTesting(
        **common_fields(fields, CardTesting.placeholders),
        probes=probes,
        probe_count=fields.count("probe_count"),
        probe_window_us=fields.span("probe_window"),
        at_least_minor=fields.amount("at_least"),
        window_us=fields.span("window"),
    )
    if rule.at_least_minor <= probes.at_most_minor:
        fields.refuse("at_least", "an amount not above probe_at_most", "an amount above probe_at_most")
    return rule
