"""State reckoned slowly, straight from LANGUAGE.md: every question is answered by looking through all earlier requests again.

It shares nothing with `policyroute.state` and `policyroute.replay`: rules and limits are the reference interpreter's, windows are
asked of `zoneinfo`, amounts are summed anew for each request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from policyroute.language.policy import REQUESTED, Policy, Refuse, Route, Value
from policyroute.language.reference import decide, evaluate, why_not
from policyroute.prices.cost import Usage, cost
from policyroute.prices.price import PriceList

WARM = {"openai": (300, 1024), "anthropic": (300, 1024), "google": (300, 1024), "deepseek": (3600, 64)}


@dataclass
class Sent:
    """One request: its signals, its time, the usage that was billed, and when its answer had come (seconds after it)."""

    values: Mapping[str, Value]
    at: datetime
    usage: Usage
    took: float = 0.0
    # what is found
    rule: str = ""
    chain: tuple[str, ...] = ()
    acted: tuple[str, ...] = ()
    refused: bool = False
    tier: int = -1
    charges: list[tuple[str, str, datetime, int, int]] = field(default_factory=list)  # title, key, window, reserved, cost


def reckon(policy: Policy, prices: Mapping[str, PriceList], requests: Sequence[Sent]) -> None:
    """Fill in what each request is given; `requests` are in order."""
    for number, request in enumerate(requests):
        _one(policy, prices, request, requests[:number])


def _one(policy: Policy, prices: Mapping[str, PriceList], request: Sent, earlier: Sequence[Sent]) -> None:
    values = request.values
    plain = decide(policy, values)
    rule = next(rule for rule in policy.rules if rule.name == plain.rule)
    request.rule = plain.rule
    if isinstance(rule.target, Refuse):
        request.refused = True
        return
    chain, acted = plain.chain, []
    tier = _rank(policy, rule.routes[max(plain.arm, 0)], chain)
    sticky, last = policy.sticky, _last(policy, request, earlier)
    if sticky and last:
        kept = last.chain[0]
        if sticky.mode == "never downgrade":
            ranked = _ranked(policy, request, earlier)
            if tier >= 0 and ranked > tier and (up := _left(policy, policy.tiers[policy.order[ranked]], values)):
                chain, tier = up, ranked
                acted.append(f"sticky {sticky.key}")
        elif chain[:1] != (kept,) and not why_not(policy, policy.models[kept], values):
            warm = sticky.mode == "keep model" or (_warm(policy, last, request) and last.tier >= tier)
            if warm:
                chain, tier = (kept, *(model for model in chain if model != kept)), last.tier
                acted.append(f"sticky {sticky.key}")
    again = True
    while again and chain:
        again = False
        for one in policy.allowances:
            if one.title in acted or not evaluate(one.condition, values) or (one.of and chain[0] not in one.of):
                continue
            wanted = 1 if one.kind == "quota" else _most(prices, chain[0], request)
            if wanted is not None and _used(policy, one.title, request, earlier) + wanted <= one.amount:
                continue
            acted.append(one.title)
            again = True
            if isinstance(one.target, Route):
                chain = _left(policy, one.target.chain, values)
                tier = _rank(policy, one.target, chain)
            else:
                chain, request.refused = (), True
            break
    request.chain, request.acted, request.tier = chain, tuple(acted), tier
    request.refused = request.refused or not chain
    for one in policy.allowances if chain else ():
        if evaluate(one.condition, values) and (not one.of or chain[0] in one.of):
            wanted = 1 if one.kind == "quota" else _most(prices, chain[0], request)
            billed = cost(request.usage, prices.get(chain[0]), request.at)
            charged = wanted if one.kind == "quota" or billed is None else billed.picodollars
            if wanted is not None and charged is not None:
                request.charges.append((one.title, str(values[one.key]), _window(policy, one.title, request.at), wanted, charged))


def _most(prices: Mapping[str, PriceList], model: str, request: Sent) -> int | None:
    usage = Usage(int(request.values["tokens"]), int(request.values["max_output"]))
    found = cost(usage, prices.get(model), request.at)
    return None if found is None else found.picodollars


def _used(policy: Policy, title: str, request: Sent, earlier: Sequence[Sent]) -> int:
    one = next(each for each in policy.allowances if each.title == title)
    key, window = str(request.values[one.key]), _window(policy, title, request.at)
    total = 0
    for other in earlier:
        for charged_title, charged_key, charged_window, reserved, billed in other.charges:
            if (charged_title, charged_key, charged_window) == (title, key, window):
                total += billed if other.at + timedelta(seconds=other.took) <= request.at else reserved
    return total


def _window(policy: Policy, title: str, at: datetime) -> datetime:
    period = next(each.period for each in policy.allowances if each.title == title)
    local = at.astimezone(ZoneInfo(policy.timezone)).replace(tzinfo=None, fold=0)
    match period:
        case "minute":
            return local.replace(second=0, microsecond=0)
        case "hour":
            return local.replace(minute=0, second=0, microsecond=0)
        case "week":
            return datetime(local.year, local.month, local.day) - timedelta(days=local.isoweekday() - 1)
        case "month":
            return datetime(local.year, local.month, 1)
        case _:
            return datetime(local.year, local.month, local.day)


def _mates(policy: Policy, request: Sent, earlier: Sequence[Sent]) -> list[Sent]:
    """Earlier answered requests of the conversation, in order, back to a gap longer than the lifetime."""
    assert policy.sticky is not None
    key = policy.sticky.key
    lifetime = timedelta(milliseconds=policy.sticky.lifetime)
    if not request.values[key]:
        return []
    found: list[Sent] = []
    newest: datetime | None = None
    for other in earlier:
        if other.chain and other.values[key] == request.values[key]:
            if newest is not None and other.at - newest > lifetime:
                found, newest = [], None
            found.append(other)
            newest = max(newest or other.at, other.at)
    return [] if newest is None or request.at - newest > lifetime else found


def _last(policy: Policy, request: Sent, earlier: Sequence[Sent]) -> Sent | None:
    mates = _mates(policy, request, earlier) if policy.sticky else []
    return mates[-1] if mates else None


def _ranked(policy: Policy, request: Sent, earlier: Sequence[Sent]) -> int:
    """The tier of the newest earlier request of the conversation that had one."""
    return next((mate.tier for mate in reversed(_mates(policy, request, earlier)) if mate.tier >= 0), -1)


def _warm(policy: Policy, last: Sent, request: Sent) -> bool:
    seconds, least = WARM.get(policy.models[last.chain[0]].provider or "", (0, 0))
    return bool(seconds) and int(last.values["tokens"]) >= least and request.at <= last.at + timedelta(seconds=seconds)


def _left(policy: Policy, chain: Sequence[str], values: Mapping[str, Value]) -> tuple[str, ...]:
    named = dict.fromkeys(str(values[REQUESTED]) if name == REQUESTED else name for name in chain)
    return tuple(name for name in named if name in policy.models and not why_not(policy, policy.models[name], values))


def _rank(policy: Policy, route: Route, chain: Sequence[str]) -> int:
    if route.tier in policy.order:
        return policy.order.index(route.tier)
    return next((n for n, tier in enumerate(policy.order) if chain and chain[0] in policy.tiers[tier]), -1)
