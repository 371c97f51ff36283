"""Two policies in one space of signals, so that a solver can be asked where they disagree.

A signal that both declare alike is one variable. One that they declare differently (type, default, places, phrases) becomes two,
and takes all values freely: "the same" is then still proved, and a difference may need a value that no request gives both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from policyroute.analysis.outcomes import Side
from policyroute.language.policy import EnumType, Policy, Rule, Signal, TextSet, Value

NEW = "'"  # what is added to a name for the new policy's meaning of it; no name can hold it


@dataclass(frozen=True)
class Merged:
    """`policy` holds the rules of both, the new one's from number `middle` on."""

    policy: Policy
    middle: int
    old: Side
    new: Side

    @property
    def apart(self) -> tuple[str, ...]:
        """Signals of both policies that are taken as two."""
        return tuple(self.new.names)

    def values(self, found: Mapping[str, Value], side: Side) -> dict[str, Value]:
        """What one of the two policies sees of a request."""
        return {name: found.get(side.names.get(name, name), signal.default) for name, signal in side.policy.signals.items()}


def merged(old: Policy, new: Policy) -> Merged:
    """Both policies as one, for questions about both."""
    texts = dict(old.texts)
    signals = {name: _wide(signal, new.signals.get(name)) for name, signal in old.signals.items()}
    names: dict[str, str] = {}
    for name, signal in new.signals.items():
        if name not in signals:
            signals[name] = _with_text(signal, new, texts)
        elif not _alike(old, new, name):
            names[name] = name + NEW
            signals[name + NEW] = _with_text(replace(signal, name=name + NEW), new, texts)
    side = Side(new, names)
    rules = (*old.rules, *(_renamed(rule, side) for rule in new.rules))
    policy = replace(old, signals=signals, texts=texts, rules=rules)
    return Merged(policy, len(old.rules), Side(old), side)


def _alike(old: Policy, new: Policy, name: str) -> bool:
    one, other = old.signals[name], new.signals[name]
    if one.kind == "match":
        return other.kind == "match" and _content(old.texts[one.words]) == _content(new.texts[other.words])
    if isinstance(one.type, EnumType) and isinstance(other.type, EnumType) and one.type.open and other.type.open:
        return True  # a member that only one of them names is another one to the other
    return (one.type, one.default, one.kind, one.places) == (other.type, other.default, other.kind, other.places)


def _wide(signal: Signal, other: Signal | None) -> Signal:
    """An open enum with the members that either policy names."""
    if other is None or not isinstance(signal.type, EnumType) or not isinstance(other.type, EnumType) or not signal.type.open:
        return signal
    members = tuple(dict.fromkeys((*signal.type.members, *other.type.members)))
    return replace(signal, type=replace(signal.type, members=members))


def _content(text_set: TextSet) -> tuple[object, ...]:
    return (sorted(text_set.phrases), text_set.pattern)


def _with_text(signal: Signal, new: Policy, texts: dict[str, TextSet]) -> Signal:
    """A signal of the new policy; the set that a match looks for comes with it, under a name of its own if need be."""
    if signal.kind != "match":
        return signal
    wanted = new.texts[signal.words]
    name = signal.words if signal.words not in texts or _content(texts[signal.words]) == _content(wanted) else signal.words + NEW
    texts.setdefault(name, replace(wanted, name=name))
    return replace(signal, words=name)


def _renamed(rule: Rule, side: Side) -> Rule:
    return replace(rule, condition=side.seen(rule.condition))
