"""What wasn't decided is said, and is an error: a proof that is missing is none."""

from __future__ import annotations

from policyroute.analysis.finding import Finding
from policyroute.language.diagnostics import Diagnostic
from policyroute.language.source import Span


def unproven(what: str, span: Span) -> Finding:
    """A finding that says that `what` was not decided."""
    return Finding(Diagnostic("not-proven", f"not proven: {what}", span, "give the solver more time: `--proof-time 60`"))
