"""What a policy's decisions depend on: limits per model as one condition, and the signals that are read.

Limits have no order and bind every model that a request could reach. So each model has one condition under which it
can't take a request: a `forbid`, a context that is too small, an ability that it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyroute.language.policy import (
    FALSE,
    REQUESTED,
    Apply,
    Expression,
    Literal,
    Model,
    Policy,
    Read,
    Refuse,
    Route,
    Split,
    reads,
)  # fmt: skip
from policyroute.language.vocabulary import ABILITIES


def blocked(policy: Policy, model: str) -> Expression:
    """The condition under which `model` can't take a request; `FALSE` where it always can."""
    reasons = [forbid.condition for forbid in policy.forbids if model in forbid.models]
    reasons += _unable(policy.models[model])
    flat = [
        part
        for reason in reasons
        for part in (reason.arguments if isinstance(reason, Apply) and reason.operator == "or" else (reason,))
    ]
    unique = tuple(dict.fromkeys(flat))
    return FALSE if not unique else unique[0] if len(unique) == 1 else Apply("or", unique)


def _unable(model: Model) -> Iterator[Expression]:
    if model.context is not None:
        yield Apply(">", (Apply("+", (Read("tokens"), Read("max_output"))), Literal(model.context)))
    if model.can is not None:
        yield from (needs for ability, needs in ABILITIES.items() if ability not in model.can)


def routes(policy: Policy) -> tuple[tuple[int, int, Route], ...]:
    """Every route that can be served: rule number, arm (-1: no split), route."""
    return tuple(
        (number, arm if isinstance(rule.target, Split) else -1, route)
        for number, rule in enumerate(policy.rules)
        if not rule.shadow
        for arm, route in enumerate(rule.routes)
    )


def reachable(policy: Policy) -> tuple[str, ...]:
    """Models that some request could be sent to, in order of declaration."""
    chains = [route.chain for _, _, route in routes(policy)]
    chains += [one.target.chain for one in policy.allowances if isinstance(one.target, Route)]
    chains += [policy.tiers[tier] for tier in policy.order] if policy.sticky and policy.sticky.mode == "never downgrade" else []
    everyone = any(REQUESTED in chain for chain in chains)
    return tuple(name for name in policy.models if everyone or any(name in chain for chain in chains))


def read_signals(policy: Policy) -> tuple[str, ...]:
    """Signals that a decision can depend on, each once, in the order of first use."""
    names = dict.fromkeys(name for rule in policy.rules for name in reads(rule.condition))
    names |= dict.fromkeys(name for model in reachable(policy) for name in reads(blocked(policy, model)))
    names |= dict.fromkeys(rule.target.key for rule in policy.rules if isinstance(rule.target, Split))
    if policy.explore:
        names[policy.explore.key] = None
    if any(REQUESTED in route.chain for rule in policy.rules if not isinstance(rule.target, Refuse) for route in rule.routes):
        names[REQUESTED] = None
    return tuple(names | dict.fromkeys(_read_by_state(policy)))


def _read_by_state(policy: Policy) -> Iterator[str]:
    """Signals that stickiness, quotas and budgets read: keys, conditions, and what a reservation is reckoned from."""
    if policy.sticky:
        yield policy.sticky.key
        yield from ("tokens",) if policy.sticky.mode == "keep while cached" else ()
    for one in policy.allowances:
        yield one.key
        yield from reads(one.condition)
        yield from ("tokens", "max_output") if one.kind == "budget" else ()
        if isinstance(one.target, Route) and REQUESTED in one.target.chain:
            yield REQUESTED


def requested_names(policy: Policy) -> dict[str, str]:
    """What a caller can write to ask for a declared model (its name, its id, `provider/id`), to the model's name."""
    found: dict[str, str] = {}
    for model in policy.models.values():
        for alias in (model.name, model.id, f"{model.provider}/{model.id}" if model.provider else ""):
            if alias:
                found.setdefault(alias, model.name)
    return found
