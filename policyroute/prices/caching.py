"""When a provider keeps a prompt's prefix: what the replay's model of the prompt cache goes by. One row per provider.

Sources, read in November 2026: Anthropic "Prompt caching" (5 minutes since the last use, or 1 hour where the write asked for it; at
least 1,024 tokens; writes are billed), OpenAI "Prompt caching" (5 to 10 minutes of inactivity, at least 1,024 tokens, in steps of
128, writes are free), DeepSeek "Context Caching" (steps of 64, hours), Google "Context caching" (implicit, at least 1,024 tokens;
no lifetime is promised: the shortest that is reported for others is taken). The shorter time is taken where a range is given.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR = 3_600


@dataclass(frozen=True, slots=True)
class CacheRule:
    """`lifetime` in seconds since the last use; reads begin at `minimum` tokens and come in steps of `step`."""

    lifetime: int
    minimum: int = 1_024
    step: int = 1


RULES = {
    "anthropic": CacheRule(300),
    "bedrock": CacheRule(300),
    "aws": CacheRule(300),
    "openai": CacheRule(300, step=128),
    "azure": CacheRule(300, step=128),
    "google": CacheRule(300),
    "deepseek": CacheRule(HOUR, minimum=64, step=64),
}


def cache_rule(provider: str) -> CacheRule | None:
    """The rule of a provider; None where none is known, and nothing is taken to be kept."""
    return RULES.get(provider.lower())
