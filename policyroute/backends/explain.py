"""What a policy says of one request and why: rules tried, limits that bind, what each model would cost. JSON-ready.

`POST /v1/route` and `policyroute explain REQUEST.json` give the same. Money is exact, as text; a condition is in the policy's own words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from policyroute.language.decision import Decision
from policyroute.language.policy import (
    REQUESTED,
    TRUE,
    Apply,
    Expression,
    Forbid,
    KeyType,
    Policy,
    Rule,
    TextType,
    Value,
    reads,
)  # fmt: skip
from policyroute.language.reference import evaluate, why_not
from policyroute.language.source import Source
from policyroute.language.wording import written
from policyroute.prices.cost import Usage, cost
from policyroute.prices.money import exact_dollars
from policyroute.prices.price import PriceList
from policyroute.signals.values import Values

Json = dict[str, Any]


def explanation(
    policy: Policy, prices: Mapping[str, PriceList], sources: Sequence[Source], values: Values, decision: Decision, at: datetime
) -> Json:
    """The decision, the rules that were tried and why they didn't take the request, and what each model would cost.

    The policy's models are complete; `sources` are its texts, `at` is the moment that prices are taken of.
    """
    known = signal_values(policy, values)
    return {
        "policy": policy.name,
        "digest": policy.digest,
        "decision": {
            "rule": decision.rule,
            "chain": list(decision.chain),
            "tier": _tier(policy, decision) or None,
            "arm": decision.arm if decision.arm >= 0 else None,
            "propensity": decision.propensity,
            "refused": decision.refused or None,
            "explored": decision.explored,
            "shadow_rules": list(decision.shadows),
        },
        "tried": list(_tried(policy, sources, known, decision)),
        "models": {name: _model(policy, prices, name, known, at) for name in policy.models},
        "signals": {name: value for name, value in known.items() if not isinstance(policy.signals[name].type, KeyType)},
        "out_of_range": sorted(values.odd),
    }


def removed(policy: Policy, sources: Sequence[Source], values: Values, decision: Decision) -> list[Json]:
    """The models that can't take the request: why, by which `forbid` in the policy's own words, and whether the decided chain names it."""
    known = signal_values(policy, values)
    chain = _chain(policy, decision, known)
    return [
        {"model": name, "why": why, "by": _limit(policy, sources, name, known), "named": name in chain}
        for name, model in policy.models.items()
        if (why := why_not(policy, model, known))
    ]


def signal_values(policy: Policy, values: Values) -> dict[str, Value]:
    """All signals of a request by name, texts left out."""
    named = (signal for signal in policy.signals.values() if not isinstance(signal.type, TextType))
    return {signal.name: getattr(values, signal.identifier) for signal in named}


# -- rules -------------------------------------------------------------------------------------------------------------


def _taking(policy: Policy, decision: Decision) -> Rule:
    return next(rule for rule in policy.rules if rule.name == decision.rule)


def _tier(policy: Policy, decision: Decision) -> str:
    """The tier that the deciding rule names, "" where it names none."""
    routes = _taking(policy, decision).routes
    return routes[max(decision.arm, 0)].tier if routes else ""


def _chain(policy: Policy, decision: Decision, known: Mapping[str, Value]) -> list[str]:
    """The decided chain before any limit."""
    routes = _taking(policy, decision).routes
    chain = routes[max(decision.arm, 0)].chain if routes else ()
    return [str(known[REQUESTED]) if name == REQUESTED else name for name in chain]


def _tried(policy: Policy, sources: Sequence[Source], known: Mapping[str, Value], decision: Decision) -> Iterator[Json]:
    for rule in policy.rules:
        taken = bool(evaluate(rule.condition, known))
        failed = [] if taken else [_seen(part, sources, known) for part in failing(rule.condition, known)]
        yield {"rule": rule.name, "takes": taken, "shadow": rule.shadow, "why_not": failed}
        if rule.name == decision.rule:
            return


def failing(condition: Expression, known: Mapping[str, Value]) -> Iterator[Expression]:
    """The parts of a conjunction that don't hold; the whole condition, where it is none and doesn't."""
    if isinstance(condition, Apply) and condition.operator == "and":
        for part in condition.arguments:
            yield from failing(part, known)
    elif not evaluate(condition, known):
        yield condition


def _seen(part: Expression, sources: Sequence[Source], known: Mapping[str, Value]) -> str:
    """A condition in the policy's own words, with the values that it saw."""
    text = _words(part, sources)
    seen = ", ".join(f"{name} is {known[name]}" for name in dict.fromkeys(reads(part)) if name in known and known[name] != "")
    return " ".join(f"{text} ({seen})".split()) if seen else text


def _words(part: Expression, sources: Sequence[Source]) -> str:
    """As the policy has it; where comments or only one of two parentheses would come along, as it would be written plainly."""
    span = part.span
    text = sources[span.file].text[span.start : span.end] if span.end else ""
    plain = text and "#" not in text and text.count("(") == text.count(")")
    return " ".join(text.split()) if plain else written(part)


# -- models ------------------------------------------------------------------------------------------------------------


def _limit(policy: Policy, sources: Sequence[Source], model: str, known: Mapping[str, Value]) -> str:
    """The `forbid` that keeps a model from the request, with the values that it saw; "" where the model itself can't take it."""
    binding = (forbid for forbid in policy.forbids if model in forbid.models and evaluate(forbid.condition, known))
    return next((_forbid(forbid, sources, known) for forbid in binding), "")


def _forbid(forbid: Forbid, sources: Sequence[Source], known: Mapping[str, Value]) -> str:
    return "forbid" if forbid.condition == TRUE else f"forbid when {_seen(forbid.condition, sources, known)}"


def _model(policy: Policy, prices: Mapping[str, PriceList], name: str, known: Mapping[str, Value], at: datetime) -> Json:
    """Why a model can't take the request, and its cost between an empty answer and the longest one. Exact dollars as text."""
    tokens, longest = int(known["tokens"]), int(known["max_output"])
    bounds = [cost(Usage(tokens, output), prices.get(name), at) for output in (0, longest)]
    costs = [exact_dollars(one.picodollars) if one else None for one in bounds]
    reason = why_not(policy, policy.models[name], known) or None
    return {"why_not": reason, "cost_usd": {"least": costs[0], "most": costs[1]}}
