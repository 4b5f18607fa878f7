"""The fraud rules: what each kind looks at, and when it fires. Which rules there are, and their thresholds, is configuration (rules.toml).

A rule looks at one transaction that counts (neither declined nor reversed) and at the history up to its instant. It does not look again
when an older transaction arrives late. Thresholds of amounts are in the transaction's own currency.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Final, Protocol

from app.domain.events import AmountFilter, Event
from app.domain.money import to_decimal
from app.domain.records import Window
from app.domain.velocity import CustomerHistory, half_even
from app.domain.verdicts import EVIDENCE_MAX, Condition, Outcome, Severity, Verdict
from app.domain.window_aggregates import AmountLookup

AMOUNT_PLACEHOLDERS: Final = frozenset({"amount", "currency"})


@dataclass(frozen=True, slots=True)
class Prefilter:
    """What is quick to see of a transaction, and which most have not."""

    at_least_minor: int = 0
    """Its amount."""
    window: str = ""
    """A window that has at least `count` transactions; "" for any transaction."""
    count: int = 0
    after: AmountFilter | None = None
    """There is an amount of these in the time of `after_us` up to it; None for any transaction."""
    after_us: int = 0

    def holds(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> bool:
        """Whether a transaction, at which the history's cursor is, has it."""
        if event.facts.amount_minor < self.at_least_minor or (self.window and windows[self.window].count < self.count):
            return False
        if self.after is None:
            return True
        track = history.amounts(self.after, event.facts.currency)
        return track is not None and track.key(len(track) - 1)[0] > history.after(self.after_us)


class Rule(Protocol):
    """What every rule is. `words` are the names that its sentence may use in braces."""

    words: ClassVar[frozenset[str]]

    @property
    def id(self) -> str:
        """Names the rule in alerts and metrics; changing it makes it another rule."""
        ...

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        ...

    @property
    def explanation(self) -> str:
        """The sentence, with words in braces."""
        ...

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts that histories must be able to look up for it."""
        ...

    @property
    def concerns(self) -> tuple[Prefilter, ...]:
        """What it is about: of a transaction for which none of them holds, `judge` would say `not_fired`."""
        ...

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """The verdict on a counted event that is in the history, with the history's cursor at it."""
        ...


@dataclass(frozen=True)
class RuleSet:
    """The rules in force, in the order of their file."""

    rules: tuple[Rule, ...]

    @cached_property
    def quiet(self) -> tuple[tuple[str, Outcome], ...]:
        """The outcomes, by rule, when nobody has anything to say."""
        return tuple((rule.id, "not_fired") for rule in self.rules)

    def concerned(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> list[Rule]:
        """Those that have to be asked. Most amounts are too small for all that are about amounts."""
        rules = self.rules if event.facts.amount_minor >= self._least_minor else self._about_any_amount
        return [rule for rule in rules if any(concern.holds(event, windows, history) for concern in rule.concerns)]

    @cached_property
    def _about_any_amount(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if _least_minor(rule) <= 0)

    @cached_property
    def _least_minor(self) -> int:
        return min((least for rule in self.rules if (least := _least_minor(rule)) > 0), default=0)

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """What histories must be able to look up."""
        return tuple(selection for rule in self.rules for selection in rule.selections)


@dataclass(frozen=True, slots=True)
class CardTesting:
    """Probes, then a large amount: `probe_count` amounts of at most `probe_at_most_minor` within `probe_window_us`, the last of them
    less than `window_us` before an amount of at least `at_least_minor`. With one probe it is probe-then-big.
    """

    id: str
    severity: Severity
    explanation: str
    probes: AmountFilter
    probe_count: int
    probe_window_us: int
    at_least_minor: int
    window_us: int

    words: ClassVar = AMOUNT_PLACEHOLDERS | {"probes", "probe_at_most"}

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The probes."""
        return (self.probes,)

    @property
    def concerns(self) -> tuple[Prefilter, ...]:
        """The large amount, not long after a probe."""
        return (Prefilter(self.at_least_minor, after=self.probes, after_us=self.window_us),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Fires on the large amount. Costs no more than the probes in the window, which are few unless it fires."""
        del windows
        facts = event.facts
        amount = Condition("amount", facts.amount_minor, self.at_least_minor, is_amount=True)
        if not amount.holds or not _has_type(self.probes, event):
            return Verdict("not_fired", (amount,), {})
        probes = self._probes(event, history)
        enough = Condition("probes", len(probes), self.probe_count)
        if not enough.holds:
            return Verdict("not_fired", (amount, enough), {})
        return Verdict(
            "fired",
            (amount, enough),
            {
                **_amount_words(event),
                "probes": str(len(probes)),
                "probe_at_most": to_decimal(self.probes.at_most_minor),
            },
            probes[:EVIDENCE_MAX],
        )

    def _probes(self, event: Event, history: CustomerHistory) -> tuple[Event, ...]:
        """The newest run of probes that is long enough, or else the longest; newest first."""
        track = history.amounts(self.probes, event.facts.currency)
        if track is None:
            return ()
        floor = history.floor_us
        last, best = len(track) - 1, range(0)
        earliest = max(event.time_us - self.window_us, floor)
        while last >= 0 and (time_us := track.key(last)[0]) > earliest:
            first = track.later(max(time_us - self.probe_window_us, floor), last + 1)
            if last + 1 - first > len(best):
                best = range(first, last + 1)
            if len(best) >= self.probe_count:
                break
            last -= 1
        return tuple(history.of_key(track.key(position)) for position in reversed(best))


@dataclass(frozen=True)
class VelocityCount:
    """Too many transactions: in any of the windows at least its limit."""

    id: str
    severity: Severity
    explanation: str
    limits: tuple[tuple[str, int, int], ...]
    """(window, its length in microseconds, limit), the shortest first."""

    words: ClassVar = AMOUNT_PLACEHOLDERS | {"count", "window", "limit"}
    selections: ClassVar[tuple[AmountFilter, ...]] = ()

    @property
    def concerns(self) -> tuple[Prefilter, ...]:
        """Any limit that is reached."""
        return tuple(Prefilter(window=name, count=limit) for name, _, limit in self.limits)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Fires while a limit is reached; the sentence names the shortest such window."""
        conditions = tuple(Condition(f"count {name}", windows[name].count, limit) for name, _, limit in self.limits)
        for (name, length_us, limit), condition in zip(self.limits, conditions, strict=True):
            if condition.holds:
                words = {**_amount_words(event), "count": str(condition.value), "window": name, "limit": str(limit)}
                evidence = history.latest_counted(event, history.after(length_us), EVIDENCE_MAX)
                return Verdict("fired", conditions, words, tuple(evidence))
        return Verdict("not_fired", conditions, {})


@dataclass(frozen=True, slots=True)
class LargeAmount:
    """An amount far above the customer's own: at least `at_least_minor` and at least `factor` times the mean of the other amounts of
    these types and this currency in the window. With fewer than `minimum_history` of them it cannot tell.
    """

    id: str
    severity: Severity
    explanation: str
    own: AmountFilter
    factor: Fraction
    at_least_minor: int
    window_us: int
    minimum_history: int

    words: ClassVar = AMOUNT_PLACEHOLDERS | {"mean", "history"}

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The amounts to compare with."""
        return (self.own,)

    @property
    def concerns(self) -> tuple[Prefilter, ...]:
        """The large amount."""
        return (Prefilter(self.at_least_minor),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """An amount below the minimum does not fire, whatever the history."""
        del windows
        facts = event.facts
        amount = Condition("amount", facts.amount_minor, self.at_least_minor, is_amount=True)
        if not amount.holds or not _has_type(self.own, event):
            return Verdict("not_fired", (amount,), {})
        track = history.amounts(self.own, facts.currency)
        assert track is not None
        first = track.later(history.after(self.window_us), len(track))
        count, total = len(track) - first - 1, track.total(first) - facts.amount_minor
        enough = Condition("history", count, self.minimum_history, is_scored=False)
        if not enough.holds:
            return Verdict("insufficient_history", (amount, enough), {})
        threshold = -(-(total * self.factor.numerator) // (count * self.factor.denominator))
        against_own = Condition("amount against own mean", facts.amount_minor, threshold, is_amount=True)
        conditions = (amount, against_own, enough)
        if not against_own.holds:
            return Verdict("not_fired", conditions, {})
        words = {**_amount_words(event), "mean": to_decimal(half_even(total, count)), "history": str(count)}
        return Verdict("fired", conditions, words, _latest(track, first, history))


@dataclass(frozen=True, slots=True)
class Threshold:
    """An amount of at least `amounts.at_least_minor`."""

    id: str
    severity: Severity
    explanation: str
    amounts: AmountFilter

    words: ClassVar = AMOUNT_PLACEHOLDERS

    selections: ClassVar[tuple[AmountFilter, ...]] = ()

    @property
    def concerns(self) -> tuple[Prefilter, ...]:
        """The amount."""
        return (Prefilter(self.amounts.at_least_minor),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Needs no history."""
        del windows, history
        amount = Condition("amount", event.facts.amount_minor, self.amounts.at_least_minor, is_amount=True)
        fired = amount.holds and _has_type(self.amounts, event)
        return Verdict(_outcome(fired), (amount,), _amount_words(event) if fired else {})


@dataclass(frozen=True, slots=True)
class Structuring:
    """Amounts kept just below a reporting threshold: at least `minimum_count` in the band within the window, this one among them."""

    id: str
    severity: Severity
    explanation: str
    band: AmountFilter
    minimum_count: int
    window_us: int

    words: ClassVar = AMOUNT_PLACEHOLDERS | {"count", "total"}

    @property
    def selections(self) -> tuple[AmountFilter, ...]:
        """The band."""
        return (self.band,)

    @property
    def concerns(self) -> tuple[Prefilter, ...]:
        """An amount that is not below the band."""
        return (Prefilter(self.band.at_least_minor),)

    def judge(self, event: Event, windows: Mapping[str, Window], history: CustomerHistory) -> Verdict:
        """Fires on every transaction in the band once there are enough."""
        del windows
        if not self.band.takes(event.facts):
            return Verdict("not_fired", (), {})
        track = history.amounts(self.band, event.facts.currency)
        assert track is not None
        first = track.later(history.after(self.window_us), len(track))
        count = len(track) - first
        enough = Condition("count in band", count, self.minimum_count)
        if not enough.holds:
            return Verdict("not_fired", (enough,), {})
        words = {**_amount_words(event), "count": str(count), "total": to_decimal(track.total(first))}
        return Verdict("fired", (enough,), words, _latest(track, first, history))


def _least_minor(rule: Rule) -> int:
    """It is not about smaller amounts."""
    return min((concern.at_least_minor for concern in rule.concerns), default=0)


def _latest(track: AmountLookup, first: int, history: CustomerHistory) -> tuple[Event, ...]:
    """The evidence: from a position on, the newest first."""
    positions = range(max(first, len(track) - EVIDENCE_MAX), len(track))
    return tuple(history.of_key(track.key(position)) for position in reversed(positions))


def _has_type(selection: AmountFilter, event: Event) -> bool:
    return ("credit" if event.facts.credit else "debit") in selection.types


def _amount_words(event: Event) -> dict[str, str]:
    return {"amount": to_decimal(event.facts.amount_minor), "currency": event.facts.currency}


def _outcome(fired: bool) -> Outcome:
    return "fired" if fired else "not_fired"
