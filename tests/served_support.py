"""Finished requests for tests: decided by a real policy, answered by nobody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from policyroute.backends.live import Live, compile_policy
from policyroute.language.load import check_file
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.prices.cost import Usage, cost
from policyroute.prices.price import PriceList
from policyroute.proxy.served import Attempt, Served
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader

ROOT = Path(__file__).parents[1]
AT = datetime(2026, 11, 20, 12, 0, 0, 123456, UTC)
USAGE = Usage(1_000, 101, 200)
CANARY = "canary-7f3a-text-that-is-nobodys-business"


@cache
def catalog() -> Catalog:
    """The price library."""
    return load_catalog()


@cache
def loaded(name: str = "support") -> tuple[Policy, Live, Reader, Mapping[str, PriceList]]:
    """One of the example policies, ready to decide."""
    policy, _ = complete(check_file(ROOT / "policies" / f"{name}.route").policy, catalog())
    return policy, compile_policy(policy, bounds=True), Reader(policy), catalog().for_policy(policy)


def served(
    text: str = "Where is my order no 123456?", name: str = "support", usage: Usage | None = USAGE, **changes: Any
) -> Served:
    """A streamed request with this text that its first model answered; `changes` are fields of the result."""
    policy, live, reader, prices = loaded(name)
    user = changes.get("user", "user_1")
    body = {"model": "auto", "stream": True, "user": user, "messages": [{"role": "user", "content": text}]}
    values = reader(Facts.of_body(body, changes.get("headers", {}), AT))
    decision = live.decide(values)
    found = Served(
        "pr_1", AT, "chat", policy, policy.digest, values, decision, caller="desk", user=user, requested="auto", stream=True
    )
    rule = next(rule for rule in policy.rules if rule.name == decision.rule)
    found.tier = rule.routes[max(decision.arm, 0)].tier if rule.routes else ""
    found.status, found.latency, found.first, found.overhead = 200, 1_200.0, 200.0, 0.3
    if decision.chain:
        answered(found, decision.chain[0], usage, prices)
    else:
        found.verdict, found.status, found.error, found.first = "refused", 400, "refused_by_policy", None
    for key, value in changes.items():
        setattr(found, key, value)
    return found


def answered(found: Served, model: str, usage: Usage | None, prices: Mapping[str, PriceList]) -> None:
    """Let `model` answer."""
    declared = found.policy.models[model]
    found.attempts.append(Attempt(model, 0.5, 1_100.0, "answered"))
    found.model, found.model_id, found.provider = model, declared.id, declared.provider or ""
    found.response_model, found.finish_reason, found.usage = declared.id, "stop", usage
    found.cost = cost(usage, prices[model], found.at) if usage else None
