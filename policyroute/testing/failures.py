"""Why a test got what it got: which rules were tried, what didn't hold in each, who took which model away.

A condition that didn't hold is shown by its failing parts, in the words of the language, each with the values that it saw on the
line below, under the signals that they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from policyroute.backends.explain import failing
from policyroute.language.decision import Decision
from policyroute.language.policy import TRUE, Expect, Expression, Policy, Rule, Split, Value, reads
from policyroute.language.reference import evaluate, why_not
from policyroute.language.wording import value_text, written

Values = Mapping[str, Value]
_PART = "      "  # before a part of a condition, which stands below its rule


def explained(policy: Policy, values: Values, expect: Expect, decision: Decision) -> Iterator[str]:
    """The lines that explain `decision`, of which `expect` wanted something else."""
    numbers = {rule.name: number for number, rule in enumerate(policy.rules)}
    taking = numbers[decision.rule]
    for rule in policy.rules[:taking]:
        yield f"  {'takes' if rule.shadow and evaluate(rule.condition, values) else 'tried'} {rule.name}{_shadow(rule)}"
        yield from _parts(rule.condition, values)
    yield f"  takes {decision.rule}"
    yield from _arm(policy.rules[taking], decision, values)
    yield from _gone(policy, policy.rules[taking], expect, values)
    wanted = numbers.get(expect.rule, taking)
    if wanted > taking:
        yield from _below(policy.rules[wanted], policy.rules[taking], values)


def under(condition: Expression, values: Values) -> list[str]:
    """A condition, and below it each signal's value where the signal stands: one line each, or two where they would overlap."""
    text = written(condition)
    lines: list[str] = []
    for name in dict.fromkeys(reads(condition)):
        value = value_text(values[name])
        at = _place(text, name)
        line = next((number for number, line in enumerate(lines) if len(line) + 2 <= at or not line), len(lines))
        lines[line:line] = [""] if line == len(lines) else []
        lines[line] = lines[line].ljust(at) + value
    return [text, *lines]


def _place(text: str, signal: str) -> int:
    """Where the signal is named: a match may be written as `prompt not has urgent`."""
    found = re.search(rf"(?<![\w\"]){re.escape(signal).replace(re.escape(' has '), ' (?:not )?has ')}(?![\w\"])", text)
    return found.start() if found else 0


def _parts(condition: Expression, values: Values) -> Iterator[str]:
    for part in failing(condition, values):
        yield from (_PART + line for line in under(part, values))


def _shadow(rule: Rule) -> str:
    return " (shadow)" if rule.shadow else ""


def _arm(rule: Rule, decision: Decision, values: Values) -> Iterator[str]:
    if isinstance(rule.target, Split):
        key = values[rule.target.key]
        by = f'by the hash of {rule.target.key} "{key}"' if key else f"as the first, for want of {rule.target.key}"
        yield f"{_PART}arm {decision.arm + 1} of {len(rule.target.arms)}, {by}"
    if decision.explored:
        yield f"{_PART}`explore` put another model first"


def _gone(policy: Policy, rule: Rule, expect: Expect, values: Values) -> Iterator[str]:
    """The models that the rule or the test names, and that can't take the request."""
    named = [model for route in rule.routes for model in route.chain if model in policy.models]
    for model in dict.fromkeys((*named, *(expect.chain or ()))):
        why = why_not(policy, policy.models[model], values)
        if why:
            yield f"  {model} drops out: {why}{_when(policy, model, values) if why == 'forbidden' else ''}"


def _when(policy: Policy, model: str, values: Values) -> str:
    """The condition of the limit, which gives no reason of its own."""
    condition = next(forbid.condition for forbid in policy.forbids if model in forbid.models and evaluate(forbid.condition, values))
    return "" if condition == TRUE else f" when {written(condition)}"


def _below(rule: Rule, taking: Rule, values: Values) -> Iterator[str]:
    holds = bool(evaluate(rule.condition, values))
    yield f"  {rule.name} stands below {taking.name}{', and would have taken it' if holds else ', and its condition does not hold:'}"
    yield from _parts(rule.condition, values)
