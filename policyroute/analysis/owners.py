"""Findings on who answers for a rule, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from policyroute.analysis.finding import Finding
from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.policy import TRUE, Policy


def findings(policy: Policy, today: date, owners: bool) -> Iterator[Finding]:
    """Rules whose day has passed; with `owners` also those, `otherwise` apart, that name nobody."""
    for rule in policy.rules:
        if rule.expires is not None and rule.expires < today:
            message = f"`{rule.name}` has expired on {rule.expires}"
            yield Finding(
                Diagnostic("expired-rule", message, rule.span, "remove it, or give it a new day", severity=Severity.WARNING)
            )
        if owners and not rule.owner and rule.condition != TRUE:
            message = f"`{rule.name}` names no owner"
            yield Finding(Diagnostic("owner-missing", message, rule.span, 'write `owner "team"` in it', severity=Severity.WARNING))
