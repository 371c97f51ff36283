"""Which models of an outcomes table can be compared: those that the policy declares, and others that have a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policyroute.language.limits import requested_names
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.prices.price import PriceList
from policyroute.replay.outcomes.table import Outcomes
from policyroute.replay.served import Served
from policyroute.replay.traces.errors import TraceError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models by number: the policy's first, in its order, then others of the outcomes.

    `numbers` maps the outcomes' names to numbers, `declared` counts the policy's models, `unpriced` are names of the outcomes
    that have no price, `absent` are models of the policy without any outcome.
    """

    policy: str
    labels: tuple[str, ...]
    lists: tuple[PriceList | None, ...]
    numbers: Mapping[str, int]
    declared: int
    unpriced: tuple[str, ...]
    absent: tuple[str, ...]


def comparison(policy: Policy, catalog: Catalog, outcomes: Outcomes) -> Comparison:
    """The models of `outcomes` as the policy calls them (name, id, `provider/id`), else as the price library does.

    Raises `TraceError` where two names of the outcomes are one model.
    """
    own, priced = _own(policy), catalog.for_policy(policy)
    labels, lists = list(policy.models), [priced.get(name) for name in policy.models]
    numbers: dict[str, int] = {}
    unpriced = []
    for model in sorted(outcomes.models):
        place = own.get(model.casefold())
        prices = lists[place] if place is not None else catalog.price_list(model)
        if prices is None:
            unpriced.append(model)
            continue
        if place is None:
            place = len(labels)
            labels.append(model)
            lists.append(prices)
        numbers[model] = place
    _refuse_twins(numbers, labels)
    absent = tuple(name for place, name in enumerate(policy.models) if place not in numbers.values())
    return Comparison(policy.name, tuple(labels), tuple(lists), numbers, len(policy.models), tuple(unpriced), absent)


def served_numbers(policy: Policy, served: Served, outcomes: Outcomes) -> dict[str, int]:
    """The numbers that a replay gives to the models of the outcomes, for `Outcomes.numbered`; models it doesn't know are absent."""
    own = _own(policy)
    labels = {label.casefold(): number for number, label in reversed(list(enumerate(served.labels)))}
    found = {model: own.get(model.casefold(), labels.get(model.casefold())) for model in outcomes.models}
    numbers = {model: number for model, number in found.items() if number is not None}
    _refuse_twins(numbers, served.labels)
    return numbers


def _own(policy: Policy) -> dict[str, int]:
    places = {name: place for place, name in enumerate(policy.models)}
    found: dict[str, int] = {}
    for alias, name in requested_names(policy).items():
        found.setdefault(alias.casefold(), places[name])
    return found


def _refuse_twins(numbers: Mapping[str, int], labels: list[str] | tuple[str, ...]) -> None:
    by_number: dict[int, list[str]] = {}
    for name, number in numbers.items():
        by_number.setdefault(number, []).append(name)
    for number, names in by_number.items():
        if len(names) > 1:
            raise TraceError(
                f"the outcomes call one model by {len(names)} names: {', '.join(f'`{name}`' for name in sorted(names))} are all `{labels[number]}`",
                "",
                "rename them in the file, or declare them as models of their own in the policy",
            )
