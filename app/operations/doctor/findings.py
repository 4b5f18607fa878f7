"""What a check found, and the report of all of them."""

from dataclasses import dataclass
from typing import Any

from app.operations.doctor.finding_kinds import KINDS, FindingKind

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 2
"""Exit codes: no finding is an error; one is; something could not be checked (and nothing found is an error)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which kind, about what, what exactly, and what to do here. KeyError for a code that is no kind."""

    code: str
    subject: str
    message: str
    cure: str = ""

    def __post_init__(self) -> None:
        KINDS[self.code]

    @property
    def kind(self) -> FindingKind:
        """What is known of all findings of this kind."""
        return KINDS[self.code]

    @property
    def advice(self) -> str:
        """What to do: for this very finding if that can be said, else for its kind."""
        return self.cure or self.kind.cure

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "code": self.code, "severity": self.kind.severity, "area": self.kind.area, "subject": self.subject,
            "message": self.message, "meaning": self.kind.meaning, "cure": self.advice,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of one check. `could_not` says why it could not be made; then there are no findings."""

    check: str
    seconds: float
    findings: tuple[Finding, ...] = ()
    could_not: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes."""

    outcomes: tuple[CheckResult, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Errors first."""
        found = [finding for outcome in self.outcomes for finding in outcome.findings]
        return tuple(sorted(found, key=lambda finding: finding.kind.severity))

    @property
    def exit_code(self) -> int:
        """See HEALTHY, UNHEALTHY and UNKNOWN."""
        if any(finding.kind.severity == "error" for finding in self.findings):
            return UNHEALTHY
        return UNKNOWN if any(outcome.could_not for outcome in self.outcomes) else HEALTHY

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "healthy": self.exit_code == HEALTHY,
            "findings": [finding.plain() for finding in self.findings],
            "checks": [
                {"check": one.check, "seconds": round(one.seconds, 3), "findings": len(one.findings), "could_not": one.could_not or None}
                for one in self.outcomes
            ],
        }  # fmt: skip
