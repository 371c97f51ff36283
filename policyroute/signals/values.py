"""A live request as the values that a policy's signals have: typed, held to their ranges, computed when first read.

Attributes are named by `Signal.identifier`, as the compiled policy reads them. A value outside its type takes the default
(a number beyond its range is clamped) and its signal's name is added to `odd`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from policyroute.language.limits import requested_names
from policyroute.language.policy import ANY_OTHER, REQUESTED, BoolType, EnumType, IntType, Policy, Signal, TextSet, Value
from policyroute.signals.facts import Facts
from policyroute.signals.text import Scanner

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Reader:
    """Makes the values of requests under one policy: `reader(facts)`. Safe to share between threads."""

    def __init__(self, policy: Policy) -> None:
        self.signals = {signal.identifier: signal for signal in policy.signals.values()}
        self.requested = requested_names(policy)
        scans: dict[str, list[str]] = {}
        for signal in policy.signals.values():
            if signal.kind == "match":
                scans.setdefault(signal.text, []).append(signal.words)
        self.scanners: dict[str, tuple[Scanner, dict[str, int]]] = {}
        for text, names in scans.items():
            sets: list[TextSet] = [policy.texts[name] for name in names]
            self.scanners[text] = Scanner(sets), {name: bit for bit, name in enumerate(names)}

    def __call__(self, facts: Facts) -> Values:
        return Values(self, facts)


class Values:
    """The signal values of one request."""

    def __init__(self, reader: Reader, facts: Facts) -> None:
        self._reader = reader
        self._facts = facts
        self._masks: dict[str, int] = {}
        self.odd: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        """Called for an attribute that isn't computed yet; the value is kept as a plain attribute."""
        value = self._bound(name) if name.endswith(("_low", "_high")) and name not in self._reader.signals else self._value(name)
        setattr(self, name, value)
        return value

    def _bound(self, name: str) -> int:
        base, _, end = name.rpartition("_")
        signal = self._reader.signals[base]
        found = getattr(self._facts, f"{signal.name}_{end}")
        return _clamped(signal, int(signal.default) if found is None else found)

    def _value(self, name: str) -> Value:
        signal = self._reader.signals.get(name)
        if signal is None:
            raise AttributeError(name)
        match signal.kind:
            case "match":
                return self._scanned(signal)
            case "declared":
                return self._declared(signal)
            case "classifier":
                return signal.default
        found = self._given(signal) if signal.places else getattr(self._facts, signal.name)
        if signal.name == REQUESTED:
            return self._reader.requested.get(str(found), ANY_OTHER)
        return signal.default if found is None else self._held(signal, found)

    def _scanned(self, signal: Signal) -> bool:
        scanner, bits = self._reader.scanners[signal.text]
        if signal.text not in self._masks:
            self._masks[signal.text] = scanner.mask(getattr(self._facts, signal.text) or "")
        return bool(self._masks[signal.text] >> bits[signal.words] & 1)

    def _declared(self, signal: Signal) -> Value:
        found = self._given(signal)
        return signal.default if found is None else self._held(signal, found)

    def _given(self, signal: Signal) -> object:
        """The first of the signal's places on a live request that has a value."""
        for place in signal.places:
            match place.kind:
                case "header":
                    found: object = self._facts.headers.get(place.name.lower())
                case "metadata":
                    found = (self._facts.content.metadata or {}).get(place.name)
                case "body":
                    found = _path(self._facts.content.fields or {}, place.name)
                case _:
                    found = None
            if found is not None:
                return found
        return None if signal.kind == "declared" else getattr(self._facts, signal.name)

    def _held(self, signal: Signal, found: object) -> Value:
        held = _typed(signal, found)
        if held is None:
            self.odd.add(signal.name)
            return signal.default
        if isinstance(signal.type, IntType):
            clamped = _clamped(signal, int(held))
            if clamped != held:
                self.odd.add(signal.name)
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
            return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, sort_keys=True)


def _whole(found: object) -> int | None:
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    text = str(found).strip()
    return int(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 20 else None


def _path(fields: Mapping[str, Any], name: str) -> object:
    """A field of the body, dotted where nested."""
    found: object = fields
    for key in name.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
