"""Findings on single rules: a condition that never holds, a rule that never takes a request, a rule that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policyroute.analysis.conditions import before, both, conjuncts
from policyroute.analysis.finding import Finding
from policyroute.analysis.outcomes import Side, different
from policyroute.analysis.solver import Solver
from policyroute.analysis.unproven import unproven
from policyroute.language.diagnostics import Diagnostic, Label, Severity
from policyroute.language.policy import TRUE, Expression, Rule
from policyroute.language.source import Span


def findings(solver: Solver) -> Iterator[Finding]:
    """Each rule's findings, in the order of the file; `otherwise` may well be reached by nothing."""
    for number, rule in enumerate(solver.policy.rules):
        if rule.condition == TRUE:
            continue
        above = [] if rule.shadow else before(solver.policy, number)
        reached = solver.ask(rule.condition, above, minimal=False)
        if reached.status == "unknown":
            yield unproven(f"whether any request reaches `{rule.name}`", rule.span)
        elif reached.status == "none":
            yield Finding(_unreached(solver, rule, above))
        elif not rule.shadow and (like := _redundant(solver, number, above)) is not None:
            names = " or ".join(f"`{solver.policy.rules[other].name}`" for other in like)
            message = f"`{rule.name}` changes nothing: {names} would send its requests the same way"
            help_ = "remove it, or say by its target what it is for"
            yield Finding(Diagnostic("redundant-rule", message, rule.span, help_, severity=Severity.INFO))


def _unreached(solver: Solver, rule: Rule, above: Sequence[int]) -> Diagnostic:
    if solver.ask(rule.condition, minimal=False).status == "none":
        return _contradiction(solver, rule)
    return _dead(solver, rule, solver.ask(rule.condition, above).core)


def _contradiction(solver: Solver, rule: Rule) -> Diagnostic:
    parts = _conflict(solver, conjuncts(rule.condition))
    labels = tuple(Label(part.span, "this part of it") for part in parts if part.span != Span.NONE)
    message = f"the condition of `{rule.name}` never holds"
    help_ = "no request can be all of this at once" if len(parts) > 1 else "no request can be so"
    return Diagnostic("contradiction", message, rule.span, help_, labels, Severity.WARNING)


def _conflict(solver: Solver, parts: Sequence[Expression]) -> list[Expression]:
    """Parts that can't hold together, none of which can be left out."""
    left = list(parts)
    for part in parts:
        rest = [other for other in left if other is not part]
        if rest and solver.ask(both(*rest), minimal=False).status == "none":
            left = rest
    return left


def _dead(solver: Solver, rule: Rule, core: Sequence[int]) -> Diagnostic:
    policy = solver.policy
    takers = [policy.rules[number] for number in core]
    labels = tuple(Label(other.span, f"`{other.name}` stands above it and {_sends(rule, other)}") for other in takers)
    names = ", ".join(f"`{other.name}`" for other in takers)
    message = f"no request reaches `{rule.name}`: {names or 'rules above'} {'takes' if len(takers) == 1 else 'take'} them all"
    same = all(other.target == rule.target for other in takers)
    help_ = "remove it" if same else "move it up, or narrow what stands above it"
    return Diagnostic("dead-rule", message, rule.span, help_, labels, Severity.WARNING)


def _sends(rule: Rule, other: Rule) -> str:
    return "sends them the same way" if other.target == rule.target else "sends them elsewhere"


def _redundant(solver: Solver, number: int, above: Sequence[int]) -> list[int] | None:
    """Rules below that would take the requests of rule `number` and send all of them the same way; None where some would go elsewhere."""
    policy, like, passing = solver.policy, list[int](), list(above)
    side = Side(policy)
    condition = policy.rules[number].condition
    for below in range(number + 1, len(policy.rules)):
        other = policy.rules[below]
        if other.shadow:
            continue
        here = both(condition, other.condition)
        if solver.ask(both(here, different(side, policy.rules[number], side, other)), passing, minimal=False).status != "none":
            return None
        if solver.ask(here, passing, minimal=False).status != "none":
            like.append(below)
        passing.append(below)
    return like
