"""Chains whose models speak no common API: whatever the client speaks, an attempt there is converted. A note of `check`."""

from __future__ import annotations

from collections.abc import Iterator

from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.policy import Model, Policy
from policyroute.proxy.providers import PROVIDERS, provider_of

CONVERTED = ("chat", "responses", "messages")  # APIs between which requests are converted


def crossings(policy: Policy) -> Iterator[Diagnostic]:
    """A note for each chain that crosses APIs, at the first route that has it; models whose APIs nobody knows here are left out."""
    known = {name: spoken for name, model in policy.models.items() if (spoken := _spoken(model))}
    seen: set[tuple[str, ...]] = set()
    for rule in policy.rules:
        for route in rule.routes if not rule.shadow else ():
            models = tuple(model for model in route.chain if model in known)
            if route.chain in seen or len(models) < 2 or frozenset.intersection(*(known[model] for model in models)):
                continue
            seen.add(route.chain)
            told = "; ".join(
                f"`{model}` speaks {' and '.join(api for api in CONVERTED if api in known[model])}" for model in models
            )
            message = f"`{rule.name}` falls back between APIs: {told}"
            help_ = "a converted request can lose what the other API hasn't: `policyroute serve --check` says what"
            yield Diagnostic("crossing-apis", message, route.span if route.span.end else rule.span, help_, severity=Severity.INFO)


def _spoken(model: Model) -> frozenset[str]:
    row = provider_of(model) or (PROVIDERS["openai"] if model.url else None)
    return frozenset(row.apis) & frozenset(CONVERTED) if row else frozenset()
