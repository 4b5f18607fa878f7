"""Defines a finding, the result of a check, and the report of all checks."""

from dataclasses import dataclass
from typing import Any

from app.operations.doctor.finding_kinds import KINDS, FindingKind

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 2
"""Exit codes. 0: no finding is an error. 1: at least one is. 2: no finding is an error, but a check could not be made."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: the code of its kind, its subject, a message, and a remedy for this case. KeyError if the code is not a kind."""

    code: str
    subject: str
    message: str
    cure: str = ""

    def __post_init__(self) -> None:
        KINDS[self.code]

    @property
    def kind(self) -> FindingKind:
        """The kind of this finding."""
        return KINDS[self.code]

    @property
    def advice(self) -> str:
        """The remedy of this finding, else the remedy of its kind."""
        return self.cure or self.kind.cure

    def plain(self) -> dict[str, Any]:
        """Returns the finding for `--json`."""
        return {
            "code": self.code, "severity": self.kind.severity, "area": self.kind.area, "subject": self.subject,
            "message": self.message, "meaning": self.kind.meaning, "cure": self.advice,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. `could_not` says why it could not be made; then there are no findings."""

    check: str
    seconds: float
    findings: tuple[Finding, ...] = ()
    could_not: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all checks."""

    outcomes: tuple[CheckResult, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, errors first."""
        found = [finding for outcome in self.outcomes for finding in outcome.findings]
        return tuple(sorted(found, key=lambda finding: finding.kind.severity))

    @property
    def exit_code(self) -> int:
        """HEALTHY, UNHEALTHY or UNKNOWN."""
        if any(finding.kind.severity == "error" for finding in self.findings):
            return UNHEALTHY
        return UNKNOWN if any(outcome.could_not for outcome in self.outcomes) else HEALTHY

    def plain(self) -> dict[str, Any]:
        """Returns the report for `--json`."""
        return {
            "healthy": self.exit_code == HEALTHY,
            "findings": [finding.plain() for finding in self.findings],
            "checks": [
                {"check": one.check, "seconds": round(one.seconds, 3), "findings": len(one.findings), "could_not": one.could_not or None}
                for one in self.outcomes
            ],
        }  # fmt: skip
