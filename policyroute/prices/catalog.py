"""What is known about models: prices, provider, context, abilities; and which source says it.

A policy's own words win, then the user's price file, then the price library; context and abilities that none of these know
come from `abilities.json` beside this module. What nobody knows stays unknown: no price is an error, no context and no
abilities mean that nothing is limited by them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from functools import cache, cached_property
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from policyroute.language.diagnostics import Diagnostic, did_you_mean
from policyroute.language.policy import Model, Policy, Rate
from policyroute.prices.library import Library, load_library
from policyroute.prices.litellm import PriceFile, keys_of, read_price_file
from policyroute.prices.price import Price, PriceList

__all__ = ["Catalog", "Facts", "Price", "PriceList", "complete", "load_catalog"]

_LETTERS = {"t": "tools", "i": "images", "j": "json"}


@dataclass(frozen=True, slots=True)
class Facts:
    """A model's context in tokens and its abilities, None where unknown."""

    context: int | None = None
    can: frozenset[str] | None = None


@dataclass(frozen=True)
class Catalog:
    """The price library, with the user's price file over it."""

    library: Library
    file: PriceFile | None = None

    @property
    def version(self) -> str:
        """What a report must say for its prices to be found again: `genai-prices 0.2.3 + file 1a2b3c4d5e6f`."""
        over = f" + file {self.file.digest[:12]}" if self.file else ""
        return f"genai-prices {self.library.version}{over}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over everything that a price can come from, the policy apart."""
        parts = (self.library.digest, self.file.digest if self.file else "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def price_list(self, model_id: str, provider: str | None = None) -> PriceList | None:
        """The prices of a model by its id, of one provider or of the one that the id points to; None when unknown."""
        found = (self.file and self.file.find(model_id, provider)) or self.library.find(model_id, provider)
        if found is None or not found.prices:
            return None
        facts = self.facts(model_id, provider)
        return replace(found, context=facts.context, can=facts.can)

    def facts(self, model_id: str, provider: str | None = None) -> Facts:
        """Context and abilities of a model, each from the first source that knows it."""
        listed = self.file.find(model_id, provider) if self.file else None
        stored = self.library.find(model_id, provider)
        tabled = _tabled(model_id, provider or (stored.provider if stored else None))
        contexts = (listed and listed.context, stored and stored.context, tabled.context)
        return Facts(
            next((size for size in contexts if size), None), listed.can if listed and listed.can is not None else tabled.can
        )

    def nearest(self, model_id: str) -> str:
        """A help sentence with the nearest known id, or the empty string."""
        return did_you_mean(model_id, (*self.library.ids(), *(self.file.ids() if self.file else ())))

    def for_model(self, model: Model) -> PriceList | None:
        """The prices of a declared model: its own rates, else what is found by its id."""
        return _stated(model) if model.rates else self.price_list(model.id, model.provider)

    def for_policy(self, policy: Policy) -> dict[str, PriceList]:
        """Prices of a policy's models by name, in order of declaration; an unpriceable model is absent."""
        found = ((name, self.for_model(model)) for name, model in policy.models.items())
        return {name: prices for name, prices in found if prices}


def load_catalog(price_file: Path | None = None, folder: Path | None = None) -> Catalog:
    """The catalog of the installed price library and an optional LiteLLM map; raises PriceFileError for a bad map."""
    return Catalog(load_library(folder), read_price_file(price_file) if price_file else None)


def complete(policy: Policy, catalog: Catalog) -> tuple[Policy, list[Diagnostic]]:
    """The policy with what its models leave out, and an error for each model that nobody prices.

    Provider, context and abilities are filled in; library prices stay in `Catalog.for_policy`, a model's `rates` being the
    policy's own.
    """
    models: dict[str, Model] = {}
    diagnostics: list[Diagnostic] = []
    for name, model in policy.models.items():
        found = catalog.for_model(model)
        if found is None:
            diagnostics.append(_not_found(model, catalog))
        models[name] = _filled(model, found, catalog)
    return replace(policy, models=models), diagnostics


def _filled(model: Model, found: PriceList | None, catalog: Catalog) -> Model:
    known = catalog.price_list(model.id, model.provider) if model.rates else found
    facts = catalog.facts(model.id, model.provider)
    return replace(
        model,
        provider=model.provider or (known.provider if known else None) or None,
        context=facts.context if model.context is None else model.context,
        can=facts.can if model.can is None else model.can,
    )


def _not_found(model: Model, catalog: Catalog) -> Diagnostic:
    seller = f" at provider `{model.provider}`" if model.provider else ""
    near = catalog.nearest(model.id)
    hint = "state its prices in dollars per million tokens: `in $1 out $5`"
    return Diagnostic(
        "price-not-found",
        f"no price is known for `{model.id}`{seller}",
        model.span,
        help=f"{near} or {hint}" if near else hint,
    )


def _stated(model: Model) -> PriceList:
    """A policy's rates as a price list; one price for cache writes is that of both lifetimes."""
    rates = sorted(model.rates, key=_midnight)
    ends = [_since(later) for _, later in pairwise(rates)]
    prices = tuple(
        Price(rate.input, rate.output, rate.cached, rate.write, rate.write, since=_since(rate), until=end)
        for rate, end in zip(rates, [*ends, None], strict=True)
    )
    return PriceList(model.id, model.provider or "", prices, "policy", context=model.context, can=model.can)


def _since(rate: Rate) -> datetime | None:
    return datetime.combine(rate.since, time(tzinfo=UTC)) if rate.since else None


def _midnight(rate: Rate) -> datetime:
    return _since(rate) or datetime.min.replace(tzinfo=UTC)


# -- abilities.json ------------------------------------------------------------------------------------------------


def _tabled(model_id: str, provider: str | None) -> Facts:
    table = _table()
    return next((table[key] for key in keys_of(model_id, provider) if key in table), Facts())


@cache
def _table() -> dict[str, Facts]:
    """`abilities.json`: groups of `[context, letters, "id id ..."]`, written by scripts/build_abilities.py."""
    data = json.loads(files("policyroute.prices").joinpath("abilities.json").read_text("utf-8"))
    return {
        key: Facts(context, None if letters is None else frozenset(_LETTERS[letter] for letter in letters))
        for context, letters, keys in data["groups"]
        for key in keys.split(" ")
    }
