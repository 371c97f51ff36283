"""Pairs of rules with different targets that hold for the same requests: information on what their order decides."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from policyroute.analysis.conditions import before, both, taken
from policyroute.analysis.finding import Finding
from policyroute.analysis.outcomes import Side, different
from policyroute.analysis.solver import Solver
from policyroute.analysis.unproven import unproven
from policyroute.language.diagnostics import Diagnostic, Label, Severity
from policyroute.language.policy import TRUE

MOST = 200  # findings; a policy of a thousand rules has half a million pairs


def findings(solver: Solver) -> Iterator[Finding]:
    """The overlaps of served rules, `otherwise` apart; at most `MOST` of them, each with a request that both would take."""
    policy = solver.policy
    side, found = Side(policy), 0
    served = [(number, rule) for number, rule in enumerate(policy.rules) if not rule.shadow and rule.condition != TRUE]
    for (number, upper), (_, lower) in combinations(served, 2):
        ways = different(side, upper, side, lower)
        answer = solver.ask(both(upper.condition, lower.condition, ways), before(policy, number))
        if answer.status == "unknown":
            yield unproven("which rules overlap: not all pairs were compared", upper.span)
            return
        if answer.status == "none":
            continue
        message = f"`{upper.name}` takes requests that `{lower.name}` would send elsewhere"
        labels = (Label(lower.span, f"`{lower.name}` stands below"),)
        diagnostic = Diagnostic("overlap", message, upper.span, "their order decides", labels, Severity.INFO)
        yield Finding(diagnostic, both(taken(policy, number), lower.condition, ways), answer.values)
        found += 1
        if found == MOST:
            return
