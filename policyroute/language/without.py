"""A policy without some of its constructs of state: for `--without`, which says so in what it prints."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from policyroute.language.policy import Policy


def left_out(policy: Policy, names: Collection[str]) -> tuple[str, ...]:
    """The titles of the constructs that `without` leaves out."""
    return tuple(one.title for one in policy.constructs if one.kind in names or one.title in names)


def without(policy: Policy, names: Collection[str]) -> Policy:
    """The policy as if it had none of the constructs whose kind (`quota`) or title (`quota fair_use`) is named.

    A classifier that is left out has its `on failure` member, always. The digest stays: what is printed names what was left out.
    """
    left = [construct for construct in policy.constructs if construct.kind in names or construct.title in names]
    if not left:
        return policy
    titles = {construct.title for construct in left}
    kinds = {construct.kind for construct in left}
    return replace(
        policy,
        constructs=tuple(construct for construct in policy.constructs if construct not in left),
        allowances=tuple(one for one in policy.allowances if one.title not in titles),
        sticky=None if "sticky" in kinds else policy.sticky,
        classifiers={name: one for name, one in policy.classifiers.items() if f"classifier {name}" not in titles},
        escalations=tuple(one for one in policy.escalations if f"escalate {', '.join(one.tiers)}" not in titles),
    )
