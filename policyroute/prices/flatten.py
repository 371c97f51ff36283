"""genai-prices' data, flattened to rows: the one module that imports that package, which takes most of a second.

A model's conditional prices, dated variants and prompt-size tiers become disjoint rows. Which price applies in a cell is
asked of the package itself (`ModelInfo.get_prices`), so its rules are not written down a second time here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import Any

from genai_prices.types import (
    ClauseAnd,
    ClauseOr,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from policyroute.prices.match import Clause
from policyroute.prices.money import PICODOLLARS, PICODOLLARS_PER_TOKEN

CONTEXTS = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
"""The request context that genai-prices' variants ask for, by our tier."""

_INPUT, _OUTPUT, _CACHED, _WRITE, _WRITE_1H = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
)
_TOKENS = (_INPUT, _OUTPUT, _CACHED, _WRITE, _WRITE_1H)
_REQUEST = "requests_kcount"
_UNSEEN = ("output_reasoning_mtok", "output_citation_mtok")  # parts of the output that cost otherwise and aren't counted here
_DAY = 86_400

Row = list[Any]  # [since, until, daily, tier, above, input, output, cached, write_5m, write_1h, request]
Cell = list[list[Any]]  # the rows of one stretch of time, without since and until


def flattened() -> list[dict[str, Any]]:
    """All providers of the installed genai-prices as JSON values; see `library` for their reader."""
    from genai_prices.data import providers

    return [_provider(provider) for provider in providers]


def _provider(provider: Provider) -> dict[str, Any]:
    return {
        "id": provider.id,
        "model_match": _clause(provider.model_match),
        "provider_match": _clause(provider.provider_match),
        "fallback": provider.fallback_model_providers or [],
        "models": [_model(model) for model in provider.models],
    }


def _model(model: ModelInfo) -> list[Any]:
    rows, exact = rows_of(model)
    return [model.id, _clause(model.match), model.context_window, exact, rows]


def _clause(clause: Any) -> Clause | None:
    match clause:
        case None:
            return None
        case ClauseAnd(parts):
            return ["and", [_clause(part) for part in parts]]
        case ClauseOr(parts):
            return ["or", [_clause(part) for part in parts]]
        case _:
            ((kind, wanted),) = vars(clause).items()
            return [kind, wanted]


def rows_of(model: ModelInfo) -> tuple[list[Row], bool]:
    """A model's price rows, and whether they say all that its prices depend on."""
    rows: list[Row] = []
    exact = True
    for tier in CONTEXTS:
        stretches = []
        for start in _starts(model):
            cell, cell_exact = _cell(model, tier, start)
            exact = exact and cell_exact
            stretches.append((start, cell))
        rows += _merged(stretches)
    return rows, exact


def _starts(model: ModelInfo) -> list[date]:
    """Days on which a price or variant of the model begins, after the day that stands for all time before."""
    constraints = [priced.constraint for priced in (*_conditional(model), *(model.price_variants or ()))]
    return [date.min, *sorted({each.start_date for each in constraints if isinstance(each, StartDateConstraint)})]


def _conditional(model: ModelInfo) -> list[ConditionalPrice]:
    return model.prices if isinstance(model.prices, list) else []


def _cell(model: ModelInfo, tier: str, day: date) -> tuple[Cell, bool]:
    """Rows of one tier from `day` on until the next start, one for each part of the day and prompt size."""
    cell: Cell = []
    exact = True
    seconds = _seconds(model)
    for start, end in pairwise(seconds):
        at = datetime.combine(day, time(tzinfo=UTC)) + timedelta(seconds=start)
        if not _stated(model, tier, at):
            continue
        rows, part_exact = _sizes(model, model.get_prices(at, CONTEXTS[tier]), tier)
        exact = exact and part_exact
        cell += [[None if len(seconds) == 2 else [start, end], *row] for row in rows]
    return cell, exact


def _seconds(model: ModelInfo) -> list[int]:
    """Seconds of the UTC day between which the price is the same, 0 and the day's end included."""
    marks = {0, _DAY}
    for priced in (*_conditional(model), *(model.price_variants or ())):
        if isinstance(priced.constraint, TimeOfDateConstraint):
            marks |= {_second(priced.constraint.start_time), _second(priced.constraint.end_time)}
    return sorted(marks)


def _second(moment: time) -> int:
    there = datetime.combine(date(1970, 1, 2), moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return there.hour * 3600 + there.minute * 60 + there.second


def _stated(model: ModelInfo, tier: str, at: datetime) -> bool:
    """Whether the tier has prices of its own at that moment; the standard tier always has."""
    context = CONTEXTS[tier]
    return not context or any(
        variant.when == context and (variant.constraint is None or variant.constraint.active(at)) and _values(variant.prices)
        for variant in model.price_variants or ()
    )


def _values(prices: ModelPrice) -> dict[str, Decimal | TieredPrices]:
    return {key: value for key, value in vars(prices).items() if value is not None}


def _sizes(model: ModelInfo, prices: ModelPrice, tier: str) -> tuple[list[list[Any]], bool]:
    """`[tier, above, rates ...]` for each prompt size at which a rate changes, and whether the rates are exact."""
    values = _values(prices)
    if not values and model.id.endswith(":free"):
        return [[tier, 0, 0, 0, None, None, None, 0]], True
    if _INPUT not in values:
        return [], True  # sold by the minute, page or character, or a price that nobody stated: not priceable by tokens
    sizes = sorted(
        {0, *(step.start for key in _TOKENS if isinstance(value := values.get(key), TieredPrices) for step in value.tiers)}
    )
    exact = not any(key in values for key in _UNSEEN)
    rows = []
    for above in sizes:
        rates = [_rate(values.get(key), above) for key in _TOKENS]
        exact = exact and all(rate is None or rate == rate.to_integral_value() for rate in rates)
        rows.append([tier, above, *_resolved([_whole(rate) for rate in rates]), _fee(values)])
    return rows, exact


def _rate(value: Decimal | TieredPrices | None, above: int) -> Decimal | None:
    """Picodollars per token of one unit for prompts that exceed `above`."""
    if value is None:
        return None
    if isinstance(value, Decimal):
        return value * PICODOLLARS_PER_TOKEN
    reached = [step.price for step in value.tiers if step.start <= above]
    return (reached[-1] if reached and above else value.base) * PICODOLLARS_PER_TOKEN


def _whole(rate: Decimal | None) -> int | None:
    return None if rate is None else int(rate.to_integral_value(ROUND_HALF_EVEN))


def _resolved(rates: list[int | None]) -> list[int | None]:
    """A cache write without a stated lifetime is a five-minute one; an hour costs the same unless it has its own rate."""
    *others, write, hour = rates
    return [*others, write, write if hour is None else hour]


def _fee(values: dict[str, Decimal | TieredPrices]) -> int:
    fee = values.get(_REQUEST, Decimal(0))
    return int(fee * PICODOLLARS / 1000) if isinstance(fee, Decimal) else 0


def _merged(stretches: list[tuple[date, Cell]]) -> Iterator[Row]:
    """Rows with since and until; neighbouring stretches with the same rows become one."""
    kept: list[tuple[date, Cell]] = []
    for start, cell in stretches:
        if not kept or kept[-1][1] != cell:
            kept.append((start, cell))
    ends = [start for start, _ in kept[1:]]
    for (start, cell), end in zip(kept, [*ends, None], strict=True):
        since = None if start == date.min else start.isoformat()
        yield from ([since, end and end.isoformat(), *row] for row in cell)
