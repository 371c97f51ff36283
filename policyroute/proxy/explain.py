"""The dry run of `POST /v1/route`: what the served policy says of a request, and why."""

from __future__ import annotations

from datetime import datetime

from policyroute.backends import explain
from policyroute.backends.explain import Json
from policyroute.language.source import Source
from policyroute.prices.money import exact_dollars
from policyroute.proxy.service import Deciding
from policyroute.signals.values import Values
from policyroute.state.deciding import Decided, Left


def explanation(deciding: Deciding, sources: tuple[Source, ...], values: Values, decided: Decided, at: datetime) -> Json:
    """The decision, the rules that were tried and why they didn't take the request, what state did, and what each model would cost."""
    found = explain.explanation(deciding.policy, deciding.prices, sources, values, decided.decision, at)
    if deciding.stateful is not None:
        found["decision"]["tier"] = decided.tier or found["decision"]["tier"]
        found["state"] = {"acted": list(decided.decision.acted), "left": [_left(left) for left in decided.left]}
    return found


def _left(left: Left) -> Json:
    """What is left of a quota (requests) or budget (exact dollars), and until when."""
    one = left.allowance
    amount, rest = (one.amount, left.left) if one.kind == "quota" else (exact_dollars(one.amount), exact_dollars(left.left))
    return {one.kind: one.name, "per": one.period, "by": one.key, "amount": amount, "left": rest, "until": left.until.isoformat()}
