"""Which models a request may be sent to beside its chain: those that `on failure { ... then next }` goes up to."""

from __future__ import annotations

from policyroute.language.policy import Chain, Policy


def above(policy: Policy, chain: Chain) -> Chain:
    """Models of the tiers above the one that `chain` begins, or above the lowest that holds a model of it; without the chain's own.

    `chain` is what limits have left. The models found are not yet limited: who sends a request there asks the limits again.
    """
    order = policy.order
    held = [place for place, tier in enumerate(order) if any(model in policy.tiers[tier] for model in chain)]
    if not held:
        return ()
    first = next((place for place, tier in enumerate(order) if policy.tiers[tier][:1] == chain[:1]), min(held))
    named = dict.fromkeys(model for tier in order[first + 1 :] for model in policy.tiers[tier])
    return tuple(model for model in named if model not in chain)
