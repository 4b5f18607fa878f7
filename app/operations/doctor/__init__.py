"""`bankstream doctor`: a deployment looked at from outside, part by part, and what to do about each thing that is wrong.

It changes nothing, and needs no more than the accounts that read. `finding_kinds.py` is the list of all findings, of which docs/DOCTOR.md
is made. Each check collects facts and hands them to a function that judges them, so that the judging is tested without the parts.
"""

from app.operations.doctor.findings import Finding, Report
from app.operations.doctor.run import examine

__all__ = ["Finding", "Report", "examine"]
