"""Tests, guarantees and gates: what a policy says of itself. None of them changes a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from policyroute.language import syntax
from policyroute.language.declarations import Targets
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.effects import canonical
from policyroute.language.expressions import ExpressionChecker, Scope
from policyroute.language.leaves import MILLISECONDS
from policyroute.language.policy import (
    ANY_OTHER,
    NONE,
    TRUE,
    BoolType,
    EnumType,
    Expect,
    Given,
    Guarantee,
    IntType,
    KeyType,
    Rule,
    Test,
    TextType,
    Value,
)
from policyroute.language.source import Span
from policyroute.language.statements import Construct, Gate, Requirement

REFUSED = "refused"
_EXAMPLES: dict[type, str] = {
    IntType: "write `{} 5`", EnumType: "write `{} MEMBER`", KeyType: 'write `{} "..."`', TextType: 'write `{} "..."`',
}  # fmt: skip

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

    # -- tests -------------------------------------------------------------------------------------------------------

    def test(self, node: syntax.Test) -> Test:
        steps = tuple((self._given(step), self._expect(step)) for step in node.steps)
        return Test(node.name.value, steps, node.name.span)

    def _given(self, step: syntax.Step) -> Given:
        values: dict[str, Value] = {}
        for pair in step.pairs:
            value = self._value(pair)
            if pair.name.value in values:
                self.scope.report("duplicate-item", f"`{pair.name.value}` is given twice", pair.name.span, "give it once")
            if value is not None:
                values[pair.name.value] = value
        repeated = step.repeated.value if step.repeated else 1
        if repeated < 1 and step.repeated:
            self.scope.report(
                "bad-given", "a request is sent at least once", step.repeated.span, "write `repeated 1 times` or more"
            )
        return Given(tuple(values.items()), max(repeated, 1), step.span)

    def _value(self, pair: syntax.Pair) -> Value | None:
        name = pair.name.value
        signal = self.scope.signals.get(name)
        if signal is None:
            self.scope.report(
                "unknown-name",
                f"no signal is named `{name}`",
                pair.name.span,
                did_you_mean(name, self.scope.signals) or "a test gives values to signals, built in or declared",
            )
            return None
        written = pair.value.value if pair.value else None
        if written is None and not isinstance(signal.type, BoolType):
            return self._bad(f"`{name}` needs a value", pair.name.span, _EXAMPLES[type(signal.type)].format(name))
        span = pair.value.span if pair.value else pair.name.span
        match signal.type:
            case IntType(low, high):
                if isinstance(written, int) and low <= written <= high:
                    return written
                return self._bad(f"`{name}` is a number from {low} to {high}", span, f"write `{name} {low}`")
            case BoolType():
                if written in (None, "true", "false") and not pair.quoted:
                    return written != "false"
                return self._bad(f"`{name}` is true or false", span, f"write `{name}` or `{name} false`")
            case EnumType() as type_:
                return self._member(name, type_, written, pair.quoted, span)
            case _:
                if isinstance(written, str) and pair.quoted:
                    return written
                return self._bad(f"`{name}` is a text", span, f'write `{name} "..."`')

    def _member(self, name: str, type_: EnumType, written: str | int | None, quoted: bool, span: Span) -> Value | None:
        if name == "requested":
            if isinstance(written, str) and (written in self.scope.models or quoted):
                return written if written in self.scope.models else ANY_OTHER
            return self._bad(
                f"no model is named `{written}`",
                span,
                did_you_mean(str(written), self.scope.models) or "put the id of a model that isn't declared in quotes",
            )
        if isinstance(written, str) and (type_.open or written in type_.all):
            return written
        members = (*type_.all, NONE) if type_.open else type_.all
        return self._bad(
            f"`{name}` has no member `{written}`",
            span,
            did_you_mean(str(written), members) or f"its members are {', '.join(f'`{m}`' for m in members)}",
        )

    def _bad(self, message: str, span: Span, help_: str) -> Value | None:
        self.scope.report("bad-given", message, span, help_)
        return None

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
