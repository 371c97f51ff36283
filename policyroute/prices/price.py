"""Prices as values: one row for each condition under which a model has another price.

A list's rows are disjoint: at one moment, for one tier and one prompt size, at most one of them applies. Times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

TIERS = ("standard", "batch", "flex", "priority")
"""Tiers of service that have prices of their own."""

OTHER_TIER = "other"
"""A tier that has no prices here, such as `scale`."""

TIER_NAMES = {
    **{tier: tier for tier in TIERS},
    "": "standard",
    "auto": "standard",
    "default": "standard",
    "on_demand": "standard",
    "standard_only": "standard",
    "batches": "batch",
}
"""What providers call the tiers, in lower case."""

Source = Literal["policy", "library", "file"]


def tier_of(name: str | None) -> str:
    """The tier of a provider's or a trace's `service_tier`; `other` when it is none of ours."""
    return TIER_NAMES.get((name or "").lower(), OTHER_TIER)


def utc(moment: datetime) -> datetime:
    """The same moment in UTC; one without a zone is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Price:
    """Rates in picodollars per token, and the condition under which they apply.

    `since` (included) and `until` (excluded) bound the request's time; `daily` bounds it within the UTC day, in seconds,
    for off-peak prices. `above` is a cliff: a request whose total input exceeds it pays these rates for all its tokens; 0
    is every request. `output` is None where only input is sold (embeddings). `cached`, `write_5m` and `write_1h` are None
    where there is no such rate. `request` is a fee per request, in picodollars.
    """

    input: int
    output: int | None
    cached: int | None = None
    write_5m: int | None = None
    write_1h: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    daily: tuple[int, int] | None = None
    above: int = 0
    tier: str = "standard"
    request: int = 0

    def covers(self, at: datetime) -> bool:
        """Whether the price is valid at `at`, a moment in UTC."""
        begun = self.since is None or at >= self.since
        return begun and (self.until is None or at < self.until) and self.in_hours(at)

    def in_hours(self, at: datetime) -> bool:
        """Whether the price is valid at the hour of `at`, a moment in UTC."""
        second = at.hour * 3600 + at.minute * 60 + at.second
        return self.daily is None or self.daily[0] <= second < self.daily[1]


@dataclass(frozen=True, slots=True)
class PriceList:
    """All prices of a model at a provider.

    `source` says who stated them, `context` (tokens) and `can` (abilities) what else is known; None is not known.
    `exact` is False where the provider's price depends on something that a request's token counts don't tell.
    """

    model: str
    provider: str
    prices: tuple[Price, ...]
    source: Source
    context: int | None = None
    can: frozenset[str] | None = None
    exact: bool = True

    @property
    def dated(self) -> bool:
        """Whether the price depends on when the request was made."""
        return any(price.since or price.until or price.daily for price in self.prices)
