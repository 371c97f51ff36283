"""Tests, guarantees and gates: what a policy says of itself. None of them changes a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from policyroute.language import syntax
from policyroute.language.declarations import Targets
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.effects import canonical
from policyroute.language.expressions import ExpressionChecker, Scope
from policyroute.language.given import GivenChecker
from policyroute.language.leaves import MILLISECONDS
from policyroute.language.policy import TRUE, Expect, Guarantee, Rule, Test
from policyroute.language.statements import Construct, Gate, Requirement

REFUSED = "refused"

# What a gate can require, with the kinds of value that each is compared with, and what stands in its parentheses.
METRICS: dict[str, tuple[str, str]] = {
    "savings": ("%$", ""), "cost": ("$", ""), "changed": ("%", ""), "refused": ("%", ""), "share": ("%", "a tier, model or rule"),
    "quality": ("%", ""), "latency": ("time", ""),
}  # fmt: skip


@dataclass
class Claims:
    """Checks claims against the rules, targets and effects of their policy."""

    scope: Scope
    targets: Targets
    rules: tuple[Rule, ...]
    constructs: Mapping[str, Construct]  # by title
    recorded: Mapping[str, str] = field(default_factory=dict)  # texts of the files that tests name, by their paths there

    # -- tests -------------------------------------------------------------------------------------------------------

    def test(self, node: syntax.Test) -> Test:
        given = GivenChecker(self.scope, self.recorded)
        steps = tuple((given.given(step), self._expect(step)) for step in node.steps)
        return Test(node.name.value, steps, node.name.span)

    def _expect(self, step: syntax.Step) -> Expect:
        name = step.rule.value
        known = [rule.name for rule in self.rules]
        if name not in known:
            self.scope.report(
                "unknown-rule",
                f"no rule is named `{name}`",
                step.rule.span,
                did_you_mean(name, known) or f"rules are {', '.join(f'`{rule}`' for rule in known)}",
            )
        acted = (step.acted[0].value, step.acted[1].value) if step.acted else None
        if step.acted and acted and " ".join(acted) not in self._actors():
            title = " ".join(acted)
            self.scope.report(
                "unknown-actor",
                f"the policy has no `{title}`",
                step.acted[0].span.to(step.acted[1].span),
                did_you_mean(title, self._actors()) or "quotas, budgets, `sticky KEY` and `escalate TIER` can act",
            )
        refused = step.chain is not None and [leaf.value for leaf in step.chain] == [REFUSED]
        chain = None if step.chain is None else () if refused else self.targets.expand(step.chain, requested=False)
        return Expect(name, chain, acted, refused, step.span)

    def _actors(self) -> list[str]:
        """What `expect RULE by ...` can name: `quota NAME`, `budget NAME`, `sticky KEY`, `escalate TIER`."""
        found: list[str] = []
        for title, construct in self.constructs.items():
            kind, _, rest = title.partition(" ")
            if construct.kind in ("quota", "budget", "sticky", "escalate"):
                found += [f"{kind} {name}" for name in rest.removeprefix("by ").split(", ")]
        return found

    # -- guarantees and gates ------------------------------------------------------------------------------------------

    def guarantee(self, node: syntax.Guarantee) -> Guarantee:
        if node.cost is None and not node.quantifier:
            self.scope.report(
                "bad-guarantee",
                "it is not said whether this is never or always so",
                node.name.span,
                "write `never ...` or `always ...`",
            )
        subjects = [subject for subject in node.subjects if subject.value != REFUSED]
        return Guarantee(
            node.name.value,
            "never" if node.quantifier == "never" else "always",
            TRUE if node.condition is None else ExpressionChecker(self.scope).condition(node.condition),
            self.targets.expand(subjects, requested=False),
            len(subjects) < len(node.subjects),
            (node.cost[0], node.cost[1].value) if node.cost else None,
            node.name.span,
        )

    def gate(self, node: syntax.Gate) -> Gate:
        if node.baseline.value not in ("recorded", "requested"):
            self.targets.expand((node.baseline,), requested=False)
        found = [self._requirement(requirement) for requirement in node.requirements]
        requirements = tuple(requirement for requirement in found if requirement is not None)
        return Gate(node.name.value, node.trace.value, node.baseline.value, requirements, node.name.span)

    def _requirement(self, node: syntax.Requirement) -> Requirement | None:
        metric = node.metric.value
        if metric not in METRICS:
            self.scope.report(
                "unknown-metric",
                f"no metric is named `{metric}`",
                node.metric.span,
                did_you_mean(metric, METRICS) or f"metrics are {', '.join(f'`{m}`' for m in METRICS)}",
            )
            return None
        units, argument = METRICS[metric]
        if bool(node.argument) != bool(argument):
            help_ = f"write `{metric}(NAME)` with the name of {argument}" if argument else f"write `{metric}` alone"
            self.scope.report(
                "unknown-metric",
                f"`{metric}` is {'' if argument else 'not '}asked of something in parentheses",
                node.metric.span,
                help_,
            )
            return None
        if node.argument and node.argument.value not in [rule.name for rule in self.rules]:
            self.targets.expand((node.argument,), requested=False)
        if node.confidence is not None and not 5_000 <= node.confidence.value <= 9_990:
            help_ = "write `at 95%`"
            self.scope.report("unknown-metric", "a confidence lies between 50 % and 99.9 %", node.confidence.span, help_)
        if _unit(node.bound.value) not in units:
            self.scope.report(
                "unknown-metric",
                f"`{metric}` can't be compared with `{node.bound.value}`",
                node.bound.span,
                f"compare it with {_example(units)}",
            )
            return None
        return _required(node)


def covered(kind: str, node: syntax.Guarantee | syntax.Gate) -> Construct:
    """What the policy's digest covers of a guarantee or gate."""
    return Construct(kind, f"{kind} {node.name.value}", canonical(node), node.name.span)


def _required(node: syntax.Requirement) -> Requirement:
    bound, argument = node.bound.value, node.argument.value if node.argument else ""
    asked = f"({argument})" if argument else ""
    confidence = node.confidence.value if node.confidence else None
    at = "" if confidence is None else f" at {format((Decimal(confidence) / 100).normalize(), 'f')}%"
    number, unit = _quantity(bound)
    relation: Any = node.relation
    text = f"{node.metric.value}{asked} {node.relation} {bound}{at}"
    return Requirement(node.metric.value, argument, relation, number, unit, confidence, text, node.metric.span)


def _quantity(bound: str) -> tuple[Decimal, Any]:
    """A bound as a number of percent, dollars or milliseconds, and which of them."""
    if bound.endswith("%"):
        return Decimal(bound[:-1]), "%"
    if bound.startswith("$"):
        return Decimal(bound[1:].replace("_", "")), "$"
    digits = bound.rstrip("abcdefghijklmnopqrstuvwxyz")
    return Decimal(digits) * MILLISECONDS[bound[len(digits) :]], "ms"


def _unit(bound: str) -> str:
    if bound.endswith("%"):
        return "%"
    return "$" if bound.startswith("$") else "time" if bound[-1].isalpha() and bound[-1] not in "kM" else "number"


def _example(units: str) -> str:
    return {"%$": "`20%` or `$5`", "$": "`$5`", "%": "`20%`", "time": "`300ms`"}[units]
