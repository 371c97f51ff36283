"""The answer: which rule, which models in which order, with which probability. And the hash that stands for chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from policyroute.language.policy import Chain

NO_ARM = -1
NO_MODEL = "no model can take this request"
PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says of one request.

    `chain` is what is left after limits, context and abilities, first choice first; it is empty where `refused` says why.
    `arm` is the split's arm from 0, or -1. `propensity` is the probability, over keys, of this arm and this exploration.
    `shadows` are shadow rules above the deciding rule that would have taken the request. `acted` names what changed the rule's choice by
    what earlier requests left behind, in order: `sticky KEY`, `quota NAME`, `budget NAME`.
    """

    rule: str
    chain: Chain
    arm: int = NO_ARM
    propensity: float = 1.0
    refused: str = ""
    explored: bool = False
    shadows: tuple[str, ...] = ()
    acted: tuple[str, ...] = ()


def draw(*parts: str) -> int:
    """A number from 0 to 2^60 - 1 that stands for chance: the first 15 hex digits of the MD5 of `parts` joined by U+001F.

    The same in SQL: `CAST('0x' || left(md5(...), 15) AS BIGINT)`.
    """
    digest = hashlib.md5("\x1f".join(parts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return int(digest[:15], 16)


def propensity(arm_share: int, explore_share: int, alternatives: int, explored: bool) -> float:
    """The probability of an arm (`arm_share` of 10,000) and of what `explore` did with `alternatives` other models."""
    if not explore_share or not alternatives:
        return arm_share / PARTS
    if explored:
        return arm_share * explore_share / (PARTS * PARTS * alternatives)
    return arm_share * (PARTS - explore_share) / (PARTS * PARTS)
