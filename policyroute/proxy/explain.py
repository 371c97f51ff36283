"""What a policy says of a request and why: the dry run of `POST /v1/route`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from policyroute.language.decision import Decision
from policyroute.language.policy import Apply, Expression, KeyType, Policy, TextType, Value, reads
from policyroute.language.reference import evaluate, why_not
from policyroute.language.source import Source
from policyroute.prices.cost import Usage, cost
from policyroute.prices.money import exact_dollars
from policyroute.proxy.service import Deciding
from policyroute.signals.values import Values

Json = dict[str, Any]


def explanation(deciding: Deciding, sources: tuple[Source, ...], values: Values, decision: Decision, at: datetime) -> Json:
    """The decision, the rules that were tried and why they didn't take the request, and what each model would cost."""
    policy = deciding.policy
    known = signal_values(policy, values)
    return {
        "policy": policy.name,
        "digest": policy.digest,
        "decision": {
            "rule": decision.rule,
            "chain": list(decision.chain),
            "tier": deciding.tier(decision) or None,
            "arm": decision.arm if decision.arm >= 0 else None,
            "propensity": decision.propensity,
            "refused": decision.refused or None,
            "explored": decision.explored,
            "shadow_rules": list(decision.shadows),
        },
        "tried": list(_tried(policy, sources, known, decision)),
        "models": {name: _model(deciding, name, known, at) for name in policy.models},
        "signals": {name: value for name, value in known.items() if not isinstance(policy.signals[name].type, KeyType)},
        "out_of_range": sorted(values.odd),
    }


def signal_values(policy: Policy, values: Values) -> dict[str, Value]:
    """All signals of a request by name, texts left out."""
    named = (signal for signal in policy.signals.values() if not isinstance(signal.type, TextType))
    return {signal.name: getattr(values, signal.identifier) for signal in named}


def _tried(policy: Policy, sources: tuple[Source, ...], known: Mapping[str, Value], decision: Decision) -> Iterator[Json]:
    for rule in policy.rules:
        taken = bool(evaluate(rule.condition, known))
        failed = [] if taken else [_written(part, sources, known) for part in _failed(rule.condition, known)]
        yield {"rule": rule.name, "takes": taken, "shadow": rule.shadow, "why_not": failed}
        if rule.name == decision.rule:
            return


def _failed(condition: Expression, known: Mapping[str, Value]) -> Iterator[Expression]:
    """The parts of a conjunction that don't hold."""
    if isinstance(condition, Apply) and condition.operator == "and":
        for part in condition.arguments:
            yield from _failed(part, known)
    elif not evaluate(condition, known):
        yield condition


def _written(part: Expression, sources: tuple[Source, ...], known: Mapping[str, Value]) -> str:
    """A condition in the policy's own words, with the values that it saw."""
    span = part.span
    text = sources[span.file].text[span.start : span.end] if span.end else part.operator if isinstance(part, Apply) else ""
    seen = ", ".join(f"{name} is {known[name]}" for name in dict.fromkeys(reads(part)) if name in known and known[name] != "")
    return " ".join(f"{text} ({seen})".split()) if seen else " ".join(text.split())


def _model(deciding: Deciding, name: str, known: Mapping[str, Value], at: datetime) -> Json:
    """Why a model can't take the request, and its cost between an empty answer and the longest one. Exact dollars as text."""
    prices = deciding.prices.get(name)
    tokens, longest = int(known["tokens"]), int(known["max_output"])
    bounds = [cost(Usage(tokens, output), prices, at) for output in (0, longest)]
    costs = [exact_dollars(one.picodollars) if one else None for one in bounds]
    reason = why_not(deciding.policy, deciding.policy.models[name], known) or None
    return {"why_not": reason, "cost_usd": {"least": costs[0], "most": costs[1]}}
