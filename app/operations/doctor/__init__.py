"""`bankstream doctor`: checks every part of a deployment from outside and reports each problem with its remedy.

It changes nothing and needs only accounts that read. `finding_kinds.py` lists all kinds of findings; docs/DOCTOR.md is generated from it.
Each check reads facts and passes them to a `judge_` function, so that the judgement can be tested without the deployed parts.

May import app.operations.capture, app.operations.provision, app.topology, sinks, app.engine, app.postgres, app.config, app.domain and
app.errors.
"""

from app.operations.doctor.findings import Finding, Report
from app.operations.doctor.run import examine

__all__ = ["Finding", "Report", "examine"]
