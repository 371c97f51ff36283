"""What differs between two policies as they are written: rules, limits, thresholds, models, prices, in words.

It compares declarations, not decisions: two policies can differ here and decide alike, and a change that reads small can
move every request. Only a replay over traces (`compare`) says what moves on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any, TypeVar

from policyroute.language.effects import canonical
from policyroute.language.manual import number_text, type_text
from policyroute.language.policy import TRUE, Apply, Expression, Forbid, Literal, Model, Policy, Read, Refuse, Route, Rule, Split
from policyroute.language.statements import Gate
from policyroute.prices.catalog import Catalog
from policyroute.prices.money import PICODOLLARS_PER_TOKEN, to_decimal
from policyroute.prices.price import Price, PriceList

Value = TypeVar("Value")
_BINDING = {"or": 0, "and": 1, "not": 2, "+": 4, "-": 4, "*": 5}  # comparisons and `in`: 3


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `kind` is the language's word for what differs, `name` its name, `text` says how, in words.

    `change` is added, removed, renamed, moved or changed.
    """

    kind: str
    name: str
    change: str
    text: str


def changes(old: Policy, new: Policy, catalog: Catalog) -> tuple[Change, ...]:
    """All differences, in the order of the language's manual. Empty exactly where both policies have the same digest.

    Prices of models that state none are those of `catalog`; as both policies are priced by it, they differ only where a
    model's id, provider or own rates do.
    """
    if old.digest == new.digest:
        return ()
    found = [
        *_head(old, new),
        *_declared("signal", _own(old), _own(new), _signal_text),
        *_declared("words", old.texts, new.texts, _words_text),
        *_tunables(old, new),
        *_models(old, new, catalog),
        *_declared("tier", old.tiers, new.tiers, ", ".join),
        *_single("order", " < ".join(old.order), " < ".join(new.order)),
        *_declared("forbid", _limits(old), _limits(new), lambda _one: "", shown=False),
        *_rules(old, new),
        *_single("explore", _explore_text(old), _explore_text(new)),
        *_constructs(old, new),
        *_declared("gate", {gate.name: gate for gate in old.gates}, {gate.name: gate for gate in new.gates}, _gate_text),
    ]
    return tuple(found) or (Change("policy", new.name, "changed", "differs in what this summary doesn't list"),)


def _head(old: Policy, new: Policy) -> Iterator[Change]:
    if old.name != new.name:
        drawn = any(isinstance(rule.target, Split) for rule in (*old.rules, *new.rules)) or old.explore or new.explore
        effect = "; `split` and `explore` draw by the policy's name, so requests fall into other arms" if drawn else ""
        yield Change("policy", new.name, "renamed", f"`{old.name}` is now `{new.name}`{effect}")
    if old.timezone != new.timezone:
        yield Change("timezone", new.timezone, "changed", f"{old.timezone} -> {new.timezone}")


def _single(kind: str, old: str, new: str) -> Iterator[Change]:
    if old != new:
        change = "added" if not old else "removed" if not new else "changed"
        yield Change(kind, "", change, " -> ".join(text for text in (old, new) if text))


def _declared(
    kind: str, old: Mapping[str, Value], new: Mapping[str, Value], text: Callable[[Value], str], *, shown: bool = True
) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield Change(kind, name, "removed", text(old[name]) if shown else "")
        elif name not in old:
            yield Change(kind, name, "added", text(new[name]) if shown else "")
        elif canonical(old[name]) != canonical(new[name]):
            yield Change(kind, name, "changed", _arrow(text(old[name]), text(new[name])))


def _arrow(old: str, new: str) -> str:
    return f"{old} -> {new}" if old != new else new


# -- declarations --------------------------------------------------------------------------------------------------


def _own(policy: Policy) -> dict[str, Any]:
    """Signals that the policy declares itself, or reads other than the vocabulary does; matches follow from their words."""
    return {name: signal for name, signal in policy.signals.items() if signal.kind in ("declared", "classifier") or signal.places}


def _signal_text(signal: Any) -> str:
    places = ", ".join(f'{place.kind} "{place.name}"' for place in signal.places)
    return f"{type_text(signal.type)}, default {_constant(signal.default)}" + (f", from {places}" if places else "")


def _words_text(found: Any) -> str:
    return f"/{found.pattern}/" if found.pattern else f"{len(found.phrases):,} phrases, such as {', '.join(found.phrases[:3])}"


def _limits(policy: Policy) -> dict[str, Forbid]:
    return {_forbid_text(forbid): forbid for forbid in policy.forbids}


def _forbid_text(forbid: Forbid) -> str:
    return f"{', '.join(forbid.models)} when {condition_text(forbid.condition)}"


def _constructs(old: Policy, new: Policy) -> Iterator[Change]:
    """Quotas, budgets, guarantees and the like: that they differ, under the language's word for them."""
    before, after = ({construct.title: construct for construct in policy.constructs} for policy in (old, new))
    for each in _declared("", before, after, lambda _one: ""):
        kind = (after.get(each.name) or before[each.name]).kind
        yield Change(kind, each.name.removeprefix(kind).strip(), each.change, "")


def _gate_text(gate: Gate) -> str:
    return f"on {gate.traces} against {gate.baseline}: {', '.join(requirement.text for requirement in gate.requirements)}"


def _explore_text(policy: Policy) -> str:
    return f"{_share(policy.explore.share)} by {policy.explore.key}" if policy.explore else ""


def _tunables(old: Policy, new: Policy) -> Iterator[Change]:
    for each in _declared("tunable", old.tunables, new.tunables, lambda one: f"{number_text(one.value)} ({type_text(one.type)})"):
        was, now = old.tunables.get(each.name), new.tunables.get(each.name)
        readers = [rule.name for rule in (new if now else old).rules if each.name in _thresholds(rule.condition)]
        value = f"{number_text(was.value)} -> {number_text(now.value)}" if was and now and was.type == now.type else each.text
        yield Change(
            each.kind, each.name, each.change, f"{value}, read by {', '.join(readers)}" if readers else f"{value}, read by no rule"
        )


def _thresholds(node: Expression) -> frozenset[str]:
    """Names of the tunables in a condition."""
    match node:
        case Literal(tunable=name):
            return frozenset((name,) if name else ())
        case Apply(_, arguments):
            return frozenset().union(*(_thresholds(argument) for argument in arguments))
        case _:
            return frozenset()


def _named(node: Expression) -> Expression:
    """The condition with tunables' names in place of their values, which are told once, at the tunable."""
    match node:
        case Literal(tunable=name) if name:
            return Literal(f"tunable {name}")
        case Apply(operator, arguments):
            return Apply(operator, tuple(map(_named, arguments)))
        case _:
            return node


# -- models and prices ---------------------------------------------------------------------------------------------


def _models(old: Policy, new: Policy, catalog: Catalog) -> Iterator[Change]:
    before, after = catalog.for_policy(old), catalog.for_policy(new)
    for name in dict.fromkeys((*old.models, *new.models)):
        if name not in new.models:
            yield Change("model", name, "removed", _model_text(old.models[name], before.get(name)))
        elif name not in old.models:
            yield Change("model", name, "added", _model_text(new.models[name], after.get(name)))
        else:
            told = list(_model_changes(old.models[name], new.models[name], before.get(name), after.get(name)))
            if told:
                yield Change("model", name, "changed", "; ".join(told))


def _model_text(model: Model, prices: PriceList | None) -> str:
    return f"{model.id}, {_price_text(prices)}"


def _model_changes(old: Model, new: Model, before: PriceList | None, after: PriceList | None) -> Iterator[str]:
    if old.id != new.id:
        yield f"id {old.id} -> {new.id}"
    if old.provider != new.provider:
        yield f"provider {old.provider or 'unknown'} -> {new.provider or 'unknown'}"
    if (before and before.prices) != (after and after.prices):
        yield f"price {_arrow(_price_text(before), _price_text(after))}"
    for what in ("context", "can", "url"):
        if getattr(old, what) != getattr(new, what):
            yield f"{what} {_attribute(getattr(old, what))} -> {_attribute(getattr(new, what))}"


def _attribute(value: Any) -> str:
    if value is None:
        return "unlimited"
    return (
        number_text(value) if isinstance(value, int) else value if isinstance(value, str) else ", ".join(sorted(value)) or "nothing"
    )


def _price_text(prices: PriceList | None) -> str:
    if prices is None or not prices.prices:
        return "no price known"
    more = f" and {len(prices.prices) - 1} more for other times, sizes or tiers" if len(prices.prices) > 1 else ""
    return _rates(_plain_price(prices.prices)) + more


def _plain_price(prices: Sequence[Price]) -> Price:
    """What most requests pay: the newest price of the standard tier, at any hour and for any size."""
    plain = [one for one in prices if one.tier == "standard" and not one.above and one.daily is None]
    return max(plain or prices, key=lambda one: (one.since is not None, one.since or datetime.min.replace(tzinfo=UTC)))


def _rates(price: Price) -> str:
    told = [("in", price.input), ("out", price.output), ("cached", price.cached), ("write", price.write_5m)]
    return " ".join(
        f"{word} ${to_decimal(rate * _PER_MILLION):f}".rstrip("0").rstrip(".") for word, rate in told if rate is not None
    )


_PER_MILLION = 10**12 // PICODOLLARS_PER_TOKEN


# -- rules ---------------------------------------------------------------------------------------------------------


def _rules(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = {rule.name: rule for rule in old.rules}, {rule.name: rule for rule in new.rules}
    renamed = _renamed(
        [rule for name, rule in before.items() if name not in after], [r for n, r in after.items() if n not in before]
    )
    moved = _moved([renamed.get(name, name) for name in before], list(after))
    back = {now: then for then, now in renamed.items()}
    for name, rule in before.items():
        if name not in after and name not in renamed:
            yield Change("rule", name, "removed", rule_text(rule))
    for place, (name, rule) in enumerate(after.items()):
        was = before.get(back.get(name, name))
        if was is None:
            yield Change("rule", name, "added", f"{_place(list(after), place)}: {rule_text(rule)}")
            continue
        if name in back:
            yield Change("rule", name, "renamed", f"was `{back[name]}`, with the same condition and target")
        if name in moved:
            yield Change("rule", name, "moved", f"now {_place(list(after), place)}")
        told = list(_rule_changes(was, rule))
        if told:
            yield Change("rule", name, "changed", "; ".join(told))


def _renamed(gone: Sequence[Rule], come: Sequence[Rule]) -> dict[str, str]:
    """Rules that only changed their names, old to new: same condition, target and shadow, and no other candidate."""
    found: dict[str, str] = {}
    for rule in gone:
        alike = [one.name for one in come if (one.condition, one.target, one.shadow) == (rule.condition, rule.target, rule.shadow)]
        if len(alike) == 1 and alike[0] not in found.values():
            found[rule.name] = alike[0]
    return found


def _moved(old: Sequence[str], new: Sequence[str]) -> set[str]:
    """The fewest rules, of those in both, that have to move for the old order to become the new one."""
    both = set(old) & set(new)
    before, after = [name for name in old if name in both], [name for name in new if name in both]
    kept = {
        name
        for block in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
        for name in after[block.b : block.b + block.size]
    }
    return both - kept


def _place(names: Sequence[str], place: int) -> str:
    return "first" if place == 0 else f"after `{names[place - 1]}`"


def _rule_changes(old: Rule, new: Rule) -> Iterator[str]:
    if old.shadow != new.shadow:
        yield "now a shadow: evaluated, never served" if new.shadow else "no longer a shadow: it is served now"
    if old.condition != new.condition and _named(old.condition) != _named(new.condition):
        yield f"when {_arrow(condition_text(old.condition), condition_text(new.condition))}"
    if target_text(old) != target_text(new):  # a tier goes by its name: its models are told once, at the tier
        yield f"then {target_text(old)} -> {target_text(new)}"
    for what in ("owner", "expires"):
        if getattr(old, what) != getattr(new, what):
            yield f"{what} {getattr(old, what) or 'none'} -> {getattr(new, what) or 'none'}"


def rule_text(rule: Rule) -> str:
    """A rule on one line, as a policy would write it."""
    when = "" if rule.condition == TRUE else f"when {condition_text(rule.condition)} "
    return f"{'shadow, ' if rule.shadow else ''}{when}then {target_text(rule)}"


def target_text(rule: Rule) -> str:
    """Where a rule sends requests, as a policy would write it."""
    match rule.target:
        case Route() as route:
            return _route_text(route)
        case Refuse(message):
            return f'refuse "{message}"'
        case Split(key, arms):
            return f"split by {key} {{ {', '.join(f'{_share(arm.share)} {_route_text(arm.route)}' for arm in arms)} }}"


def _route_text(route: Route) -> str:
    first, *others = route.chain
    return route.tier or first + (f" fallback {', '.join(others)}" if others else "")


def _share(parts: int) -> str:
    whole, rest = divmod(parts, 100)
    return f"{whole}.{rest:02}".rstrip("0").rstrip(".") + "%"


def condition_text(node: Expression, within: int = -1) -> str:
    """A condition as a policy would write it; a threshold by its name and value (`short=60`)."""
    match node:
        case Literal(value, tunable=named):
            return f"{named}={_constant(value)}" if named else _constant(value)
        case Read(signal):
            return signal
        case Apply("not", (Apply("in", (subject, member)),)):
            return f"{condition_text(subject)} is not {condition_text(member)}"
        case Apply("not", (inner,)):
            return _bracketed(f"not {condition_text(inner, 2)}", 2, within)
        case Apply("in", (subject, member)):
            return f"{condition_text(subject)} is {condition_text(member)}"
        case Apply("in", (subject, *members)):
            return f"{condition_text(subject)} in ({', '.join(condition_text(member) for member in members)})"
        case Apply(operator, arguments):
            tight = _BINDING.get(operator, 3)
            return _bracketed(f" {operator} ".join(condition_text(each, tight) for each in arguments), tight, within)


def _bracketed(text: str, tight: int, within: int) -> str:
    return f"({text})" if tight < within or (tight == within >= 2) else text


def _constant(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return number_text(value) if isinstance(value, int) else str(value)
