"""Reader of LiteLLM's `model_prices_and_context_window.json`, plain or gzip, that a user keeps or extends.

Costs there are dollars per token; they become whole picodollars, rounded half to even (rates below 10**-12 dollars have no
exact form: the list is then not exact). Keys are a base, then `_above_1hr`, `_above_200k_tokens`, `_batches`, `_flex` or
`_priority`. A rate that a tier or a prompt size leaves out is that of the tier without it, and then the standard one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from policyroute.prices.cost import MAX_TOKENS
from policyroute.prices.money import PICODOLLARS, from_decimal
from policyroute.prices.price import Price, PriceList

MODES = ("chat", "completion", "responses", "embedding")
"""Modes that are priced by the token."""

# LiteLLM's names of providers, by the price library's.
PROVIDERS = {
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}

_BASES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
    "input_cost_per_token_cache_hit": "cached",
    "cache_creation_input_token_cost": "write_5m",
    "cache_creation_input_token_cost_above_1hr": "write_1h",
}
_KEY = re.compile(rf"({'|'.join(sorted(_BASES, key=len, reverse=True))})(?:_above_(\d+)k_tokens)?(?:_(batches|flex|priority))?")
_TIERS = {None: "standard", "batches": "batch", "flex": "flex", "priority": "priority"}
_FLAGS = ("supports_function_calling", "supports_tool_choice", "supports_vision", "supports_response_schema")
_REQUEST = "input_cost_per_request"
_DEAREST = 1000  # dollars per token or request
_UNSEEN = ("off_peak_pricing", "input_dbu_cost_per_token")

Rates = dict[tuple[str, int], dict[str, int]]  # by tier and prompt size, rates by field of Price


class PriceFileError(Exception):
    """A price file that can't be read: what is wrong, and in `help` what to do."""

    def __init__(self, message: str, help_: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help_


@dataclass(frozen=True)
class PriceFile:
    """A file's entries by lower-case key; `digest` is the SHA-256 of its (unpacked) bytes."""

    entries: dict[str, dict[str, Any]]
    digest: str
    _lists: dict[str, PriceList | None] = field(default_factory=dict)

    def find(self, model_id: str, provider: str | None = None) -> PriceList | None:
        """The prices of a model: under `provider/id`, under the id, or under the id without its provider, whichever comes
        first and isn't another provider's."""
        for key in keys_of(model_id, provider):
            entry = self.entries.get(key)
            if entry is None or (provider and not _sold_by(entry, provider)):
                continue
            if key not in self._lists:
                self._lists[key] = price_list(key, entry)
            if found := self._lists[key]:
                return found
        return None

    def ids(self) -> Iterator[str]:
        """Every key of the file."""
        return iter(self.entries)


def read_price_file(path: Path) -> PriceFile:
    """The price file at `path`. Raises PriceFileError when it is missing, cut off, or no map of models."""
    try:
        packed = path.read_bytes()
        text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise PriceFileError(f"can't read the price file `{path.name}`: {error}", "name a readable file, plain or gzip") from None
    try:
        entries = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise PriceFileError(f"`{path.name}` is not JSON: {error}", "take a fresh copy of LiteLLM's price map") from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise PriceFileError(
            f"`{path.name}` is no price map", "it maps model ids to objects with `input_cost_per_token` and others"
        )
    models = {key.lower(): entry for key, entry in entries.items() if key != "sample_spec"}
    for key, entry in models.items():
        _checked(path.name, key, entry)
    return PriceFile(models, hashlib.sha256(text).hexdigest())


def keys_of(model_id: str, provider: str | None = None) -> list[str]:
    """Keys under which a map may hold a model, the most particular first."""
    wanted = model_id.strip().lower()
    names = [theirs for theirs, ours in PROVIDERS.items() if ours == provider]
    keys = [f"{name}/{wanted}" for name in ([provider.lower(), *names] if provider else ())]
    keys.append(wanted)
    while "/" in wanted:
        wanted = wanted.partition("/")[2]
        keys.append(wanted)
    return keys


def price_list(key: str, entry: dict[str, Any]) -> PriceList | None:
    """The prices of one entry, or None when it isn't priced by the token."""
    rates, exact = _rates(entry)
    standard = rates.get(("standard", 0), {})
    if "input" not in standard or entry.get("mode", "chat") not in MODES:
        return None
    fee = from_decimal(Decimal(entry.get(_REQUEST) or 0))
    prices = tuple(_price(rates, tier, above, fee) for tier, above in _cells(rates))
    return PriceList(key, provider_of(entry), prices, "file", context_of(entry), abilities_of(entry), exact)


def provider_of(entry: dict[str, Any]) -> str:
    """The entry's provider under the price library's name; empty when the entry names none."""
    name = str(entry.get("litellm_provider", "")).lower()
    return PROVIDERS.get(name) or PROVIDERS.get(name.partition("-")[0]) or name


def context_of(entry: dict[str, Any]) -> int | None:
    """The most tokens that the model takes as input, where the entry says so."""
    size = entry.get("max_input_tokens")
    return int(size) if isinstance(size, (int, Decimal)) and size > 0 else None


def abilities_of(entry: dict[str, Any]) -> frozenset[str] | None:
    """`tools`, `images`, `json`; None where the entry speaks of none of them.

    A map names what a model can and seldom what it can't, so one that is named at all is read as naming them all. A model
    with tools is taken to give a wanted form too, which is how providers did it before they had a field for it.
    """
    if not any(flag in entry for flag in _FLAGS):
        return None
    tools = bool(entry.get("supports_function_calling") or entry.get("supports_tool_choice"))
    can = {
        "tools": tools,
        "images": bool(entry.get("supports_vision")),
        "json": tools or bool(entry.get("supports_response_schema")),
    }
    return frozenset(ability for ability, has in can.items() if has)


def _checked(file: str, key: str, entry: dict[str, Any]) -> None:
    for name, value in entry.items():
        if not (_KEY.fullmatch(name) or name == _REQUEST) or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value <= _DEAREST:
            raise PriceFileError(
                f"`{name}` of `{key}` in `{file}` is no price: {value}", "a price is a number of dollars, from 0 to 1000"
            )


def _sold_by(entry: dict[str, Any], provider: str) -> bool:
    seller = provider_of(entry)
    return not seller or provider.lower() in (seller, str(entry.get("litellm_provider", "")).lower())


def _rates(entry: dict[str, Any]) -> tuple[Rates, bool]:
    rates: Rates = {}
    exact = not any(entry.get(name) for name in _UNSEEN)
    for tier, above, name, value in _stated(entry):
        picodollars = value * PICODOLLARS
        exact = exact and picodollars == picodollars.to_integral_value()
        rates.setdefault((tier, above), {}).setdefault(name, from_decimal(value))
    reasoning = entry.get("output_cost_per_reasoning_token")
    return rates, exact and reasoning in (None, entry.get("output_cost_per_token")) and not _cliff_lost(rates)


def _stated(entry: dict[str, Any]) -> Iterator[tuple[str, int, str, Decimal]]:
    for key, value in entry.items():
        if (found := _KEY.fullmatch(key)) and value is not None:
            base, thousands, tier = found.groups()
            yield _TIERS[tier], int(thousands or 0) * 1000, _BASES[base], Decimal(value)
    for step in _steps(entry):
        for key, value in step.items():
            if key in _BASES and isinstance(value, (int, Decimal)) and 0 <= value <= _DEAREST:
                yield "standard", int(step["range"][0]), _BASES[key], Decimal(value)


def _steps(entry: dict[str, Any]) -> list[dict[str, Any]]:
    steps = entry.get("tiered_pricing")
    return [step for step in steps if isinstance(step, dict) and _begins(step)] if isinstance(steps, list) else []


def _begins(step: dict[str, Any]) -> bool:
    span = step.get("range")
    return isinstance(span, list) and len(span) == 2 and isinstance(span[0], (int, Decimal)) and 0 <= span[0] <= MAX_TOKENS


def _cliff_lost(rates: Rates) -> bool:
    """Whether a tier has prices but not for all the prompt sizes that the standard tier has."""
    sizes = {above for tier, above in rates if tier == "standard"}
    return any((tier, above) not in rates for tier, _ in rates for above in sizes)


def _cells(rates: Rates) -> list[tuple[str, int]]:
    """The tiers that state a price of their own, each at its own prompt sizes and at 0."""
    tiers = dict.fromkeys(tier for tier, _ in rates)
    return [(tier, above) for tier in tiers for above in sorted({0} | {size for name, size in rates if name == tier})]


def _price(rates: Rates, tier: str, above: int, fee: int) -> Price:
    layers = [("standard", 0), ("standard", above), (tier, 0), (tier, above)]
    merged = {name: rate for layer in layers for name, rate in rates.get(layer, {}).items()}
    hour = merged.get("write_1h", merged.get("write_5m"))
    caches = (merged.get("cached"), merged.get("write_5m"), hour)
    return Price(merged["input"], merged.get("output"), *caches, above=above, tier=tier, request=fee)
