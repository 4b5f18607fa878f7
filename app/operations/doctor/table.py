"""Prints the report as a table."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.operations.doctor.findings import HEALTHY, Report

STYLES = {"error": "bold red", "warning": "yellow"}


def show(report: Report, console: Console) -> None:
    """Prints the findings with their remedies, the checks that could not be made, and the totals. No text is interpreted as markup."""
    if report.findings:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("", "finding", "about", "what, and what to do"):
            table.add_column(column, overflow="fold")
        for finding in report.findings:
            severity = finding.kind.severity
            told = Text(finding.message + "\n") + Text(finding.advice, style="dim")
            table.add_row(Text(severity, style=STYLES[severity]), Text(finding.code), Text(finding.subject), told)
        console.print(table)
    for outcome in report.outcomes:
        if outcome.could_not:
            console.print(Text(f"could not check {outcome.check}: {outcome.could_not}", style="yellow"))
    errors = sum(finding.kind.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    made = sum(not outcome.could_not for outcome in report.outcomes)
    verdict = f"{made} of {len(report.outcomes)} checks made: {errors} errors, {warnings} warnings"
    console.print(Text(verdict, style="green" if report.exit_code == HEALTHY and not warnings else "bold"))
