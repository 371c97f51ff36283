"""A live request as the values that a policy's signals have: typed, held to their ranges, computed when first read.

Attributes are named by `Signal.identifier`, as the compiled policy reads them; `<identifier>_LOW` and `_HIGH` are the bounds of
a costly number. A value outside its type takes the default (a number beyond its range is clamped) and its signal's name is
added to `odd`. How each attribute is read is settled once per policy, so that a request pays for what it reads only.

A classifier's signal is asked of a model when it is first read, through the function that the reader was given: once per request,
and not at all where evaluation doesn't get to it. Without such a function it has its `on failure` member.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from policyroute.language.limits import requested_names
from policyroute.language.policy import ANY_OTHER, REQUESTED, BoolType, EnumType, IntType, Place, Policy, Signal, Value
from policyroute.signals.facts import Facts
from policyroute.signals.text import Scanner

Find = Callable[[Facts], Any]
Read = Callable[["Values"], Value]
Classify = Callable[["Values", Signal], str]
"""Answers a classifier's signal for a request with one of its members. It doesn't raise: a request is decided all the same."""

BOUNDED = ("tokens", "last_tokens")  # signals for which `Facts` has bounds that cost no scan
KEPT_MASKS = 1_024  # answers of a scanner that are kept unfolded
_WHOLE = re.compile(r"(-?[0-9]{1,18})(?:\.0+)?")  # `replay.observe` has the same two rules in SQL
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Reader:
    """Makes the values of requests under one policy: `reader(facts)`. Safe to share between threads, as far as `classify` is.

    `classify` asks a classifier; without it, classifiers have their `on failure` member.
    """

    def __init__(self, policy: Policy, classify: Classify | None = None) -> None:
        self.reads: dict[str, Read] = {}
        matches: dict[str, list[Signal]] = {}
        for signal in policy.signals.values():
            if signal.kind == "match":
                matches.setdefault(signal.text, []).append(signal)
            elif signal.kind == "classifier":
                self.reads[signal.identifier] = _classifier(signal, classify)
            else:
                self.reads[signal.identifier] = _read(policy, signal)
            if signal.name in BOUNDED:
                stated = self.reads[signal.identifier] if signal.places else None  # what a caller states, the text doesn't bound
                self.reads[f"{signal.identifier}_LOW"] = stated or _bound(signal, f"{signal.name}_low")
                self.reads[f"{signal.identifier}_HIGH"] = stated or _bound(signal, f"{signal.name}_high")
        for text, signals in matches.items():
            scan = _Scan(text, Scanner([policy.texts[signal.words] for signal in signals]), signals)
            self.reads |= {signal.identifier: scan.read(signal.identifier) for signal in signals}

    def __call__(self, facts: Facts) -> Values:
        return Values(self.reads, facts)


class Values:
    """The signal values of one request. `facts` is what they are made from, `odd` the signals whose value had to be changed.

    `reached` are the names of the classifiers whose value was read, `classified` is what the asking function noted of each. Once
    `quiet` is set, no classifier is asked or noted any more: for whoever reads the values after the request was served.
    """

    quiet = False

    def __init__(self, reads: Mapping[str, Read], facts: Facts) -> None:
        self._reads = reads
        self.facts = facts
        self.odd: set[str] = set()
        self.reached: set[str] = set()
        self.classified: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        """Called for an attribute that isn't computed yet; the value is kept as a plain attribute."""
        try:
            read = self._reads[name]
        except KeyError:
            raise AttributeError(name) from None
        value = self.__dict__[name] = read(self)
        return value


class _Scan:
    """One text's word sets and patterns: all their signals get their values from one scan."""

    def __init__(self, text: str, scanner: Scanner, signals: list[Signal]) -> None:
        self.find = attrgetter(text)
        self.scanner = scanner
        self.identifiers = tuple(signal.identifier for signal in signals)
        self.unfolded: dict[int, dict[str, bool]] = {}

    def read(self, identifier: str) -> Read:
        """How one of the signals is read, with which the others become plain attributes too."""

        def read(values: Values) -> bool:
            found = self.unfold(self.scanner.mask(self.find(values.facts) or ""))
            values.__dict__.update(found)
            return found[identifier]

        return read

    def unfold(self, mask: int) -> dict[str, bool]:
        """The signals' values by identifier."""
        found = self.unfolded.get(mask)
        if found is None:
            found = {identifier: bool(mask >> bit & 1) for bit, identifier in enumerate(self.identifiers)}
            if len(self.unfolded) < KEPT_MASKS:
                self.unfolded[mask] = found
        return found


# -- one signal ------------------------------------------------------------------------------------------------------


def _classifier(signal: Signal, classify: Classify | None) -> Read:
    def read(values: Values) -> Value:
        if values.quiet:
            return signal.default
        values.reached.add(signal.name)
        return signal.default if classify is None else classify(values, signal)

    return read


def _read(policy: Policy, signal: Signal) -> Read:
    find = _find(signal)
    if signal.name == REQUESTED:
        names = requested_names(policy)
        return lambda values: names.get(str(find(values.facts)), ANY_OTHER)
    plain = _plain(signal)

    def read(values: Values) -> Value:
        found = find(values.facts)
        if found is None:
            return signal.default
        kept: Value = found
        return kept if plain(found) else _held(signal, found, values.odd)

    return read


def _find(signal: Signal) -> Find:
    """The first of the signal's places on a live request that has a value, then what the request says of a built-in one."""
    finds = [at for place in signal.places if (at := _at(place))]
    if signal.kind == "builtin":
        finds.append(attrgetter(signal.name))
    if len(finds) == 1:
        return finds[0]

    def find(facts: Facts) -> Any:
        for each in finds:
            found = each(facts)
            if found is not None:
                return found
        return None

    return find


def _at(place: Place) -> Find | None:
    name = place.name
    match place.kind:
        case "header":
            lower = name.lower()
            return lambda facts: facts.headers.get(lower)
        case "metadata":
            return lambda facts: (facts.content.metadata or {}).get(name)
        case "body":
            return lambda facts: _path(facts.content.fields or {}, name)
        case _:
            return None


def _bound(signal: Signal, name: str) -> Read:
    find, plain = attrgetter(name), _plain(signal)

    def read(values: Values) -> int:
        found: int | None = find(values.facts)
        if found is None:
            return int(signal.default)
        return found if plain(found) else _clamped(signal, found)

    return read


# -- types -----------------------------------------------------------------------------------------------------------


def _plain(signal: Signal) -> Callable[[Any], bool]:
    """Whether a value is of the signal's type as it stands; what isn't goes through `_held`."""
    match signal.type:
        case IntType(low=low, high=high):
            return lambda found: type(found) is int and low <= found <= high
        case BoolType():
            return lambda found: type(found) is bool
        case EnumType(members=members, open=open_):
            return lambda found: type(found) is str and (open_ or found in members)
        case _:
            return lambda found: type(found) is str


def _held(signal: Signal, found: object, odd: set[str]) -> Value:
    held = _typed(signal, found)
    if held is None:
        odd.add(signal.name)
        return signal.default
    if isinstance(signal.type, IntType):
        clamped = _clamped(signal, int(held))
        if clamped != held:
            odd.add(signal.name)
        return clamped
    return held


def _clamped(signal: Signal, number: int) -> int:
    assert isinstance(signal.type, IntType)
    return min(max(number, signal.type.low), signal.type.high)


def _typed(signal: Signal, found: object) -> Value | None:
    """`found` as a value of the signal's type, or None where it is none."""
    match signal.type:
        case IntType():
            return _whole(found)
        case BoolType():
            return found if isinstance(found, bool) else _WORDS.get(str(found).lower())
        case EnumType() as type_:
            return str(found) if type_.open or found in type_.members else None
        case _:
            return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _whole(found: object) -> int | None:
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    match = None if isinstance(found, bool) else _WHOLE.fullmatch(str(found).strip(" "))
    return int(match[1]) if match else None


def _path(fields: Mapping[str, Any], name: str) -> object:
    """A field of the body, dotted where nested."""
    found: object = fields
    for key in name.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
