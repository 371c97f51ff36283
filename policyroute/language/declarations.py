"""What a policy sees and what it can call: signals, sets, thresholds, models, tiers.

Each function reads one kind of declaration into the scope or the catalog, and reports what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import re2

from policyroute.language import syntax
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.expressions import Scope
from policyroute.language.policy import (
    MISSING,
    REQUESTED,
    BoolType,
    Chain,
    EnumType,
    IntType,
    KeyType,
    Model,
    Place,
    Rate,
    Signal,
    TextSet,
    Tunable,
    Type,
    Value,
)  # fmt: skip
from policyroute.language.source import Span
from policyroute.language.vocabulary import ABILITIES, SIGNALS

LARGEST_PATTERN = 4_000  # RE2 spends memory on each group of a pattern
_TYPES = "a type is `int LOW..HIGH`, `bool`, `key`, or members: `free | pro`"

# -- signals -------------------------------------------------------------------------------------------------------


def builtin_signals() -> dict[str, Signal]:
    """The signals of the vocabulary, before a policy narrows them."""
    return {row.name: Signal(row.name, row.type, row.default, "builtin") for row in SIGNALS.values()}


def declare_signal(scope: Scope, node: syntax.Signal) -> None:
    """A declared signal, or a built-in one with narrower bounds or a place of its own."""
    type_ = _type(scope, node.type)
    if type_ is None:
        return
    builtin = SIGNALS.get(node.name.value)
    if builtin is not None and not _narrows(scope, node, type_, builtin.type):
        return
    default = _default(scope, node, type_, builtin.default if builtin else None)
    places = tuple(Place(place.kind, place.name.value) for place in node.places)  # type: ignore[arg-type]
    kind: Any = "builtin" if builtin else "declared"
    scope.signals[node.name.value] = Signal(node.name.value, type_, default, kind, places, span=node.name.span)


def _type(scope: Scope, node: syntax.TypeNode) -> Type | None:
    match node.kind:
        case "int":
            return int_range(scope, node)
        case "bool":
            return BoolType()
        case "key":
            return KeyType()
    names = [member.value for member in node.members]
    for member in node.members:
        if names.count(member.value) > 1 or member.value == MISSING:
            message = (
                f"`{MISSING}` is what an optional signal is without a value"
                if member.value == MISSING
                else f"`{member.value}` stands there twice"
            )
            scope.report(
                "duplicate-name",
                message,
                member.span,
                "write `(a | b)?` for a signal that can be missing" if member.value == MISSING else "name it once",
            )
            return None
    return EnumType(tuple(names), node.optional)


def int_range(scope: Scope, node: syntax.TypeNode) -> IntType | None:
    """The range of an int, or None where it is upside down."""
    if node.low > node.high:
        scope.report(
            "bad-range", f"the range ends below its start: {node.low} to {node.high}", node.span, "write the smaller number first"
        )
        return None
    return IntType(node.low, node.high)


def _narrows(scope: Scope, node: syntax.Signal, type_: Type, builtin: Type) -> bool:
    name = node.name.value
    if isinstance(type_, IntType) and isinstance(builtin, IntType):
        if builtin.low <= type_.low and type_.high <= builtin.high:
            return True
        help_ = f"`{name}` goes from {builtin.low} to {builtin.high}; bounds can only be narrowed"
        scope.report("bad-range", f"the bounds of the built-in `{name}` are widened", node.type.span, help_)
        return False
    if type_ == builtin and not isinstance(type_, EnumType):
        return True
    scope.report("bad-redeclaration", f"`{name}` is built in and has another type", node.name.span, "choose another name")
    return False


def _default(scope: Scope, node: syntax.Signal, type_: Type, builtin: Value | None) -> Value:
    """The default as a value of the type, whatever was written."""
    given = node.default
    match type_:
        case IntType(low, high):
            if given is None:
                inherited = builtin if isinstance(builtin, int) else None
                if inherited is None or not low <= inherited <= high:
                    _no_default(scope, node, str(low))
                return low if inherited is None else inherited
            if not isinstance(given.value, int) or not low <= given.value <= high:
                scope.report("bad-range", f"the default lies outside {low} to {high}", given.span, "choose one inside the range")
                return low
            return given.value
        case BoolType():
            if given is not None and given.value not in ("true", "false"):
                scope.report("bad-range", "a condition's default is `true` or `false`", given.span, "write `= false`")
            return given is not None and given.value == "true"
        case EnumType():
            if given is None:
                if not type_.optional:
                    help_ = f"say what a request without it means: `= {type_.members[0]}`"
                    help_ = help_ if len(type_.members) > 1 else _TYPES
                    scope.report("default-missing", f"`{node.name.value}` has no default", node.name.span, help_)
                return MISSING if type_.optional else type_.members[0]
            if given.value not in type_.all:
                help_ = did_you_mean(str(given.value), type_.all) or f"its members are {', '.join(f'`{m}`' for m in type_.all)}"
                if len(type_.all) == 1:
                    help_ = _TYPES
                scope.report("unknown-member", f"`{node.name.value}` has no member `{given.value}`", given.span, help_)
                return type_.members[0]
            return given.value
        case _:
            if given is not None:
                scope.report("bad-range", "a key has no default", given.span, "leave it out")
            return ""


def _no_default(scope: Scope, node: syntax.Signal, example: str) -> None:
    scope.report(
        "default-missing",
        f"`{node.name.value}` has no default",
        node.name.span,
        f"say what a request without it means: `= {example}`",
    )


# -- sets and thresholds -------------------------------------------------------------------------------------------


def declare_words(scope: Scope, node: syntax.Words, phrases: Sequence[str]) -> None:
    """A set of phrases; `phrases` are those written, or those of the file named by `from`."""
    kept = tuple(phrase.strip() for phrase in phrases)
    if not kept or not all(kept):
        scope.report(
            "empty-words",
            f"`{node.name.value}` holds an empty phrase" if kept else f"`{node.name.value}` holds no phrase",
            node.name.span,
            'name at least one: `"outage"`',
        )
        kept = tuple(phrase for phrase in kept if phrase)
    scope.texts[node.name.value] = TextSet(node.name.value, tuple(dict.fromkeys(kept)), span=node.name.span)


def declare_pattern(scope: Scope, node: syntax.Pattern) -> None:
    """An RE2 pattern that matches some texts and not all."""
    source = node.regex.value.replace("\\/", "/")
    problem, help_ = _pattern_problem(source)
    if problem:
        scope.report("bad-pattern", f"`{node.name.value}` {problem}", node.regex.span, help_)
    scope.texts[node.name.value] = TextSet(node.name.value, pattern=source, span=node.name.span)


def _pattern_problem(source: str) -> tuple[str, str]:
    """What is wrong with a pattern, and the remedy; two empty strings where nothing is."""
    if len(source) > LARGEST_PATTERN:
        return f"is longer than {LARGEST_PATTERN} characters", "split it, or name phrases with `words`"
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        return f"is not valid RE2: {reason}", "RE2 knows no look-around and no back-references"
    if compiled.search("") is not None and compiled.search("\0") is not None:
        return "matches every text", "demand at least one character"
    return "", ""


def declare_tunable(scope: Scope, node: syntax.Tunable, given: int | None = None) -> None:
    """A threshold with its range; `given` stands in place of the written value."""
    type_ = int_range(scope, node.range)
    if type_ is None:
        type_ = IntType(node.value.value, node.value.value)
    if not type_.low <= node.value.value <= type_.high:
        scope.report(
            "bad-range", f"the value lies outside {type_.low} to {type_.high}", node.value.span, "choose one inside the range"
        )
    value = node.value.value if given is None else given
    if given is not None and not type_.low <= given <= type_.high:
        message = f"`{node.name.value}` can't be {given}: its range is {type_.low} to {type_.high}"
        scope.report("bad-range", message, node.name.span, "give a value inside the range, or widen it")
    scope.tunables[node.name.value] = Tunable(node.name.value, type_, value, node.name.span)


def unknown_tunables(scope: Scope, given: Iterable[str], place: Span) -> None:
    """Report values that are given for tunables which no file declares."""
    for name in given:
        if name not in scope.tunables:
            known = ", ".join(f"`{each}`" for each in scope.tunables)
            help_ = did_you_mean(name, scope.tunables) or (
                f"tunables are {known}" if known else "declare one: `tunable short : int 50..2k = 500`"
            )
            scope.report("unknown-name", f"no tunable is named `{name}`", place, help_)


# -- models, tiers -------------------------------------------------------------------------------------------------


@dataclass
class Targets:
    """What can be called."""

    scope: Scope
    models: dict[str, Model] = field(default_factory=dict)
    tiers: dict[str, Chain] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    below: frozenset[str] = frozenset()  # tiers that are still to be declared

    def expand(self, names: Sequence[syntax.Name], *, requested: bool = True) -> Chain:
        """Models of a list of models, tiers and `requested`, each once, in order; unknown names are reported."""
        chain: list[str] = []
        for name in names:
            chain += self._one(name, requested)
        return tuple(dict.fromkeys(chain))

    def _one(self, name: syntax.Name, requested: bool) -> Chain:
        if name.value in self.tiers:
            return self.tiers[name.value]
        if name.value in self.models or (requested and name.value == REQUESTED):
            return (name.value,)
        if name.value == REQUESTED:
            help_ = "it is the target of a rule, for what the caller asked for; name models or tiers here"
            self.scope.report("unknown-model", "`requested` has no meaning here", name.span, help_)
            return ()
        if name.value in self.below:
            help_ = "a tier holds models and the tiers above it"
            self.scope.report("unknown-model", f"the tier `{name.value}` is not declared above", name.span, help_)
            return ()
        help_ = did_you_mean(name.value, [*self.models, *self.tiers]) or f'declare it: `model {name.value} {{ id "..." }}`'
        self.scope.report("unknown-model", f"no model or tier is named `{name.value}`", name.span, help_)
        return ()

    def declare_tier(self, node: syntax.Tier) -> None:
        self.tiers[node.name.value] = self.expand(node.models, requested=False)
        self.below -= {node.name.value}

    def declare_order(self, node: syntax.Order) -> None:
        names = [tier.value for tier in node.tiers]
        for tier in node.tiers:
            if tier.value not in self.tiers:
                help_ = did_you_mean(tier.value, self.tiers) or "order ranks tiers, from the weakest to the strongest"
                self.scope.report("order-unknown", f"no tier is named `{tier.value}`", tier.span, help_)
            elif names.count(tier.value) > 1:
                self.scope.report("order-unknown", f"`{tier.value}` is ranked twice", tier.span, "name each tier once")
        self.order = tuple(dict.fromkeys(names))

    def declare_model(self, node: syntax.Model) -> None:
        items = self.items(node.items, several=("in", "out", "cached", "write", "from"))
        if not _value(items.get("id")):
            self.scope.report(
                "model-incomplete", f"`{node.name.value}` has no id", node.name.span, 'say what the provider calls it: `id "..."`'
            )
        can = frozenset(ability.value for ability in items.get("can", ()))
        for ability in items.get("can", ()):
            if ability.value not in ABILITIES:
                help_ = did_you_mean(ability.value, ABILITIES) or f"abilities are {', '.join(f'`{a}`' for a in ABILITIES)}"
                self.scope.report("unknown-ability", f"no ability is named `{ability.value}`", ability.span, help_)
        self.models[node.name.value] = Model(
            name=node.name.value, id=_value(items.get("id")) or "", provider=_value(items.get("provider")), url=_value(items.get("url")),
            rates=self._rates(node), context=_value(items.get("context")), can=can if "can" in items else None, span=node.name.span,
        )  # fmt: skip

    def items(self, items: Sequence[syntax.Item], several: Sequence[str] = ()) -> dict[str, Any]:
        """A block's entries by their keyword; one given twice is reported."""
        found: dict[str, Any] = {}
        for item in items:
            if item.key in found and item.key not in several:
                self.scope.report("duplicate-item", f"`{item.key}` is given twice", item.span, "keep one of them")
            found.setdefault(item.key, item.value)
        return found

    def _rates(self, node: syntax.Model) -> tuple[Rate, ...]:
        """Prices in groups: the first from ever on, a new one after each `from DATE`."""
        groups: list[tuple[date | None, Span, dict[str, int]]] = [(None, node.name.span, {})]
        for item in node.items:
            value: Any = item.value
            if item.key == "from":
                groups.append((value.value, item.span, {}))
            elif item.key in ("in", "out", "cached", "write"):
                if item.key in groups[-1][2]:
                    self.scope.report(
                        "duplicate-item",
                        f"`{item.key}` is given twice",
                        item.span,
                        "keep one, or date the second: `from 2027-01-01 in $1 out $2`",
                    )
                groups[-1][2].setdefault(item.key, value.value)
        return tuple(rate for since, span, prices in groups if (rate := self._rate(since, span, prices)) is not None)

    def _rate(self, since: date | None, span: Span, prices: dict[str, int]) -> Rate | None:
        if not prices and since is None:
            return None
        for wanted in ("in", "out"):
            if wanted not in prices:
                self.scope.report(
                    "model-incomplete",
                    f"a price without `{wanted}`",
                    span,
                    "state both: `in $1 out $4`; the dollars are per million tokens",
                )
                return None
        return Rate(since, prices["in"], prices["out"], prices.get("cached"), prices.get("write"))


def _value(leaf: Any) -> Any:
    return None if leaf is None else leaf.value


def with_mentioned(scope: Scope) -> dict[str, Signal]:
    """The signals, with the members of open enums that the policy mentions (`requested`: the declared models)."""
    signals = dict(scope.signals)
    mentioned = {name: tuple(members) for name, members in scope.mentioned.items()} | {REQUESTED: scope.models}
    for name, members in mentioned.items():
        type_ = signals[name].type
        assert isinstance(type_, EnumType)
        signals[name] = replace(signals[name], type=replace(type_, members=tuple(dict.fromkeys((*type_.members, *members)))))
    return signals
