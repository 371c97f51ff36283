"""The price library: genai-prices flattened once into a file, and the search for a model's prices in it.

The file lies in the user's cache folder under the names of both versions that made it; its first line holds a digest of
the rest. A file that can't be read, is cut off or was made by something else is made again, and when it can't be written
the library lives in memory. A model is found by the package's own match clauses; see `Library.find` for the order.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from policyroute.prices.match import Matcher, dashed_dates, matcher
from policyroute.prices.price import Price, PriceList

EDITION = 1
"""Counts changes of the flattened form."""

# Bedrock's ids: a region group, a vendor, a dot. genai-prices has no rule that tells them without the provider.
_BEDROCK = re.compile(
    r"^(?:[a-z]{2,6}(?:-gov)?\.)?(?:ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen|stability|writer)\."
)
_ALIASES = {
    "x_ai": "x-ai",
    "azure.ai.inference": "azure",
    "gcp.gen_ai": "google",
}  # OpenTelemetry's names that genai-prices doesn't know
_FIRST = ("openai", "anthropic", "google", "mistral", "cohere", "deepseek", "x-ai")  # whose own models are meant by a bare id


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of one provider: `record` is `[id, clause, context, exact, rows]` of the flattened file."""

    provider: str
    record: list[Any]
    matches: Matcher

    @property
    def id(self) -> str:
        return str(self.record[0])


class Shelf:
    """One provider of the library; its clauses are compiled when it is first searched."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.id: str = data["id"]
        self.fallback: list[str] = data["fallback"]
        self.records: list[list[Any]] = data["models"]
        self.sells: Matcher = _optional(data["model_match"])
        self.is_named: Matcher = _optional(data["provider_match"])

    @cached_property
    def entries(self) -> list[Entry]:
        return [Entry(self.id, record, matcher(record[1])) for record in self.records]

    def match(self, model_id: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.matches(model_id)), None)


class Library:
    """All providers' models. `digest` is that of the flattened data, `version` the package's."""

    def __init__(self, payload: bytes, package_version: str) -> None:
        self.version = package_version
        self.digest = hashlib.sha256(payload).hexdigest()
        self._shelves = {shelf.id: shelf for shelf in map(Shelf, json.loads(payload))}

    def find(self, model_id: str, provider: str | None = None) -> PriceList | None:
        """The prices of a model.

        With `provider`, that provider's models are searched, then those it resells; its own name before a slash is
        dropped where the id isn't found with it. Without: a provider's name before a slash, Bedrock's form, the providers'
        rules for bare ids, and last the same id at any provider, if all that have it agree on the price.
        """
        wanted = model_id.strip().lower()
        if provider is not None and provider.lower() != "litellm":  # a proxy's name, not a seller's
            shelf = self._named(provider)
            return (self._at(shelf, wanted) or self._prefixed(wanted, shelf)) if shelf else None
        return self._prefixed(wanted) or self._bedrock(wanted) or self._bare(wanted) or self._same_everywhere(wanted)

    def ids(self) -> Iterator[str]:
        """Every model's id, repeated where several providers sell it."""
        return (record[0] for shelf in self._shelves.values() for record in shelf.records)

    def _named(self, provider: str) -> Shelf | None:
        name = provider.strip().lower()
        name = _ALIASES.get(name, name)
        return self._shelves.get(name) or next((shelf for shelf in self._shelves.values() if shelf.is_named(name)), None)

    def _at(self, shelf: Shelf, wanted: str) -> PriceList | None:
        dashed = dashed_dates(wanted)
        for text in (wanted, dashed) if dashed != wanted else (wanted,):
            if entry := shelf.match(text):
                return price_list(entry.record, shelf.id)
            for other in shelf.fallback:
                if entry := self._shelves[other].match(text):
                    return price_list(entry.record, shelf.id, resold=True)
        return None

    def _prefixed(self, wanted: str, only: Shelf | None = None) -> PriceList | None:
        """`provider/model`, of the provider `only` if one is given."""
        prefix, slash, rest = wanted.partition("/")
        shelf = self._named(prefix) if slash else None
        return self._at(shelf, rest) if shelf and only in (None, shelf) else None

    def _bedrock(self, wanted: str) -> PriceList | None:
        return self._at(self._shelves["aws"], wanted) if _BEDROCK.match(wanted) and "aws" in self._shelves else None

    def _bare(self, wanted: str) -> PriceList | None:
        shelf = next((shelf for shelf in self._shelves.values() if shelf.sells(wanted)), None)
        return self._at(shelf, wanted) if shelf else None

    def _same_everywhere(self, wanted: str) -> PriceList | None:
        found = [
            price_list(record, shelf.id)
            for shelf in self._shelves.values()
            for record in shelf.records
            if str(record[0]).lower() == wanted
        ]
        if not found or any(each.prices != found[0].prices for each in found):
            return None
        return min(found, key=lambda each: _FIRST.index(each.provider) if each.provider in _FIRST else len(_FIRST))


def price_list(record: list[Any], provider: str, resold: bool = False) -> PriceList:
    """A flattened record as a price list; a reseller's list has the maker's standard prices only, as in genai-prices."""
    name, _, context, exact, rows = record
    prices = tuple(_price(row) for row in rows if not resold or row[3] == "standard")
    return PriceList(name, provider, prices, "library", context=context, exact=exact)


def _price(row: list[Any]) -> Price:
    since, until, daily, tier, above, fresh, output, cached, write_5m, write_1h, request = row
    window = (daily[0], daily[1]) if daily else None
    bounds = (_moment(since), _moment(until), window, above, tier)
    return Price(fresh, output, cached, write_5m, write_1h, *bounds, request)


def _moment(day: str | None) -> datetime | None:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None


def _optional(clause: list[Any] | None) -> Matcher:
    return matcher(clause) if clause else lambda _: False


# -- the file ------------------------------------------------------------------------------------------------------


def load_library(folder: Path | None = None) -> Library:
    """The library of the installed genai-prices, from the file in `folder` (else the user's cache folder)."""
    installed = version("genai-prices")
    path = (folder or cache_folder()) / f"prices-{installed}-{EDITION}.json"
    payload = _read(path)
    if payload is None:
        payload = _flatten()
        _write(path, payload)
    return Library(payload, installed)


def cache_folder() -> Path:
    """`$POLICYROUTE_CACHE`, else `policyroute` in the platform's place for caches."""
    if chosen := os.environ.get("POLICYROUTE_CACHE"):
        return Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "policyroute"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "policyroute" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "policyroute"
    return Path.home() / ".cache" / "policyroute"


def _flatten() -> bytes:
    from policyroute.prices.flatten import flattened  # imports genai-prices: most of a second, so only when it must

    return json.dumps(flattened(), separators=(",", ":")).encode()


def _read(path: Path) -> bytes | None:
    """The payload of a whole file of ours, else None."""
    try:
        head, _, payload = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return payload if head.decode("ascii", "replace") == hashlib.sha256(payload).hexdigest() else None


def _write(path: Path, payload: bytes) -> None:
    """Puts the file in its place in one step; a folder that can't be written costs the next start its time, no more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
