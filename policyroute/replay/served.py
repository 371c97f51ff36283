"""The models of a replay: each distinct one of the policies and the trace resolved once, to a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from policyroute.language.limits import requested_names
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.prices.price import PriceList


@dataclass(frozen=True)
class Served:
    """One price list, label and provider per number; "" is a provider that isn't known. A policy's models come first, in its order.

    `numbers` says, for each policy in turn (the one replayed, then a baseline policy), which number each of its models has.
    """

    lists: tuple[PriceList | None, ...]
    labels: tuple[str, ...]
    providers: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]

    def label(self, number: int) -> str:
        """What a report calls the model with this number; -1 is a row that names no model."""
        return self.labels[number] if 0 <= number < len(self.labels) else "no model named"


class _Numbered:
    """Models in the order in which they were first met."""

    def __init__(self) -> None:
        self.lists: list[PriceList | None] = []
        self.labels: list[str] = []
        self.providers: list[str] = []

    def number(self, label: str, prices: PriceList | None, provider: str | None) -> int:
        """The number of a model, a new one unless one with this label and these prices is there."""
        for number, known in enumerate(self.labels):
            if known == label and self.lists[number] == prices:
                return number
        self.lists.append(prices)
        self.labels.append(label)
        self.providers.append(provider or (prices.provider if prices else ""))
        return len(self.labels) - 1


def served_models(connection: duckdb.DuckDBPyConnection, relation: str, policies: Sequence[Policy], catalog: Catalog) -> Served:
    """Resolve each distinct model of the trace once, and keep the numbers in the table `served`.

    A model that the replayed policy declares, by name or id, has the policy's price; any other the library's.
    """
    found = _Numbered()
    numbers = []
    for policy in policies:
        priced = catalog.for_policy(policy)
        numbers.append(tuple(found.number(name, priced.get(name), model.provider) for name, model in policy.models.items()))
    known = requested_names(policies[0])
    names = list(policies[0].models)
    distinct = f"SELECT DISTINCT provider, model, requested_model FROM ({relation})"
    pairs = connection.sql(
        f"SELECT DISTINCT provider, unnest([model, requested_model]) AS model FROM ({distinct}) ORDER BY ALL"
    ).fetchall()
    rows = []
    for provider, model in ((provider, model) for provider, model in pairs if model is not None):
        own = known.get(model) or known.get(f"{provider}/{model}" if provider else "")
        number = names.index(own) if own else found.number(model, catalog.price_list(model, provider), provider)
        rows.append((provider, model, number))
    connection.execute('CREATE OR REPLACE TEMP TABLE served (provider VARCHAR, model VARCHAR, "$served" INTEGER)')
    if rows:
        connection.executemany("INSERT INTO served VALUES (?, ?, ?)", rows)
    return Served(tuple(found.lists), tuple(found.labels), tuple(found.providers), tuple(numbers))
