"""What one request cost: exact picodollars, or None where that can't be known. An unknown price is never 0.

The same rules as SQL are in `table`; both choose a price with `choose`, so they can't differ in which one applies.
Sums are of whole picodollars per token, so nothing is rounded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from policyroute.prices.price import Price, PriceList, tier_of, utc

MAX_TOKENS = 10**9
"""More tokens than one request can have; a count beyond it is a broken record, and unpriceable."""

# What was assumed where something wasn't known. A cost's `fallbacks` are texts of this list; a table's are bits in its order.
NO_DATE = "no date: newest price used"
BEFORE_FIRST = "before the first dated price: first price used"
TIER_NOT_PRICED = "tier not priced: standard used"
NO_CACHED = "no cached rate: input rate used"
NO_WRITE = "no cache write rate: input rate used"
NOT_EXACT = "price depends on what tokens don't tell: its usual rate used"
FALLBACKS = (NO_DATE, BEFORE_FIRST, TIER_NOT_PRICED, NO_CACHED, NO_WRITE, NOT_EXACT)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request. `input` is the total; `cached` and the two cache writes are parts of it."""

    input: int
    output: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0

    @property
    def fresh(self) -> int:
        """Input that was neither read from the cache nor written to it; negative when the counts contradict each other."""
        return self.input - self.cached - self.write_5m - self.write_1h

    @property
    def possible(self) -> bool:
        """Whether one request can have had these counts."""
        return (
            min(self.output, self.cached, self.write_5m, self.write_1h, self.fresh) >= 0
            and max(self.input, self.output) <= MAX_TOKENS
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request cost, and what was assumed on the way."""

    picodollars: int
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The price that applies to a request, with the assumptions made in choosing it."""

    price: Price
    fallbacks: tuple[str, ...] = ()


def cost(usage: Usage, prices: PriceList | None, at: datetime | None, tier: str | None = "standard") -> Cost | None:
    """The cost of a request made `at` a time (a naive one is UTC), or None when it is unpriceable.

    `tier` is the service tier as the provider or trace calls it. Unpriceable are: no price list, no price at that time,
    output of a model whose output has no price, counts that contradict each other or exceed `MAX_TOKENS`.
    """
    chosen = choose(prices, at, usage.input, tier_of(tier)) if prices and usage.possible else None
    if prices is None or chosen is None or (chosen.price.output is None and usage.output):
        return None
    price = chosen.price
    total = (
        usage.fresh * price.input
        + usage.cached * _either(price.cached, price.input)
        + usage.write_5m * _either(price.write_5m, price.input)
        + usage.write_1h * _either(price.write_1h, price.input)
        + usage.output * (price.output or 0)
        + price.request
    )
    return Cost(total, (*chosen.fallbacks, *_missing_rates(usage, price), *(() if prices.exact else (NOT_EXACT,))))


def choose(prices: PriceList, at: datetime | None, input_tokens: int, tier: str) -> Chosen | None:
    """The price for a time, a prompt size and one of our tiers (or `other`); None when none applies.

    Without a time, the newest price is used, and of those that change with the hour the dearest.
    """
    rows, fallbacks = _at(prices, at, tier)
    if not rows and tier != "standard":
        rows, fallbacks = _at(prices, at, "standard")
        fallbacks = (*fallbacks, TIER_NOT_PRICED)
    reached = [price for price in rows if price.above == 0 or input_tokens > price.above]
    if not reached:
        return None
    return Chosen(max(reached, key=lambda price: (price.above, price.input, price.output or 0)), fallbacks)


def _at(prices: PriceList, at: datetime | None, tier: str) -> tuple[list[Price], tuple[str, ...]]:
    rows = [price for price in prices.prices if price.tier == tier]
    if not rows:
        return [], ()
    if at is None:
        newest = max(rows, key=_start).since
        return [price for price in rows if price.since == newest], (NO_DATE,) if prices.dated else ()
    moment = utc(at)
    first = min(rows, key=_start).since
    if tier == "standard" and first is not None and moment < first:
        return [price for price in rows if price.since == first and price.in_hours(moment)], (BEFORE_FIRST,)
    return [price for price in rows if price.covers(moment)], ()


def _start(price: Price) -> datetime:
    return price.since or datetime.min.replace(tzinfo=UTC)


def _either(rate: int | None, otherwise: int) -> int:
    return otherwise if rate is None else rate


def _missing_rates(usage: Usage, price: Price) -> tuple[str, ...]:
    no_cached = usage.cached > 0 and price.cached is None
    no_write = (usage.write_5m > 0 and price.write_5m is None) or (usage.write_1h > 0 and price.write_1h is None)
    return (*((NO_CACHED,) if no_cached else ()), *((NO_WRITE,) if no_write else ()))
