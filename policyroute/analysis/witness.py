"""A request that shows something, as a test would give it: texts instead of matches, and nothing that need not be said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from policyroute.analysis.phrases import Phrases
from policyroute.analysis.shrink import Holds
from policyroute.language.decision import Decision
from policyroute.language.limits import read_signals
from policyroute.language.policy import (
    ANY_OTHER,
    BoolType,
    EnumType,
    Given,
    IntType,
    KeyType,
    Policy,
    Signal,
    TextType,
    Value,
    reads,
)
from policyroute.language.reference import decide
from policyroute.language.vocabulary import SIGNALS
from policyroute.signals.given import Requests

UNNAMED = "a-model-that-is-not-declared"  # what a caller asks for who asks for no declared model
GREETING = "Hello"  # the last message, where it says nothing that the others say
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Witness:
    """`given` is what stands behind the word in a test, `values` what the policy then sees, `decision` what it decides."""

    given: str
    decision: Decision
    values: Mapping[str, Value]

    def test(self, name: str) -> str:
        """A `test` block of this name that expects the decision."""
        way = ", ".join(self.decision.chain) or "refused"
        quoted = " ".join(name.replace('"', "'").split())
        return f'test "{quoted}" {{\n  given {self.given}\n  expect {self.decision.rule} -> {way}\n}}\n'


def witness(policy: Policy, values: Mapping[str, Value], holds: Holds | None = None) -> Witness:
    """The request of `values`, which hold every signal but texts, as a test would give it.

    With `holds`, what texts say of themselves (their tokens) is left to them wherever `holds` stays true of what is then seen.
    """
    made = _Maker(policy, values)
    stated = made.stated()
    if holds is not None:
        stated = made.relaxed(stated, holds)
    seen = made.seen(stated)
    decided = _plain(policy, seen)
    pairs = [_pair(policy.signals[name], value) for name, value in stated.items()]
    first = next((name for name in read_signals(policy) if isinstance(policy.signals[name].type, IntType | BoolType)), "tokens")
    given = ", ".join(pairs) or _pair(policy.signals[first], decided[first])  # a test has to give something
    return Witness(given, decide(policy, decided), decided)


def _plain(policy: Policy, seen: Mapping[str, Value]) -> dict[str, Value]:
    return {name: seen[name] for name, signal in policy.signals.items() if not isinstance(signal.type, TextType)}


class _Maker:
    def __init__(self, policy: Policy, values: Mapping[str, Value]) -> None:
        self.policy, self.values = policy, values
        self.requests = Requests(policy)
        claimed = (name for guarantee in policy.guarantees for name in reads(guarantee.condition))
        self.names = [name for name in dict.fromkeys((*read_signals(policy), *claimed)) if name in values]
        self.matches = [policy.signals[name] for name in self.names if policy.signals[name].kind == "match"]

    def seen(self, stated: Mapping[str, Value]) -> Mapping[str, Value]:
        """What the policy sees of a request in which this is given."""
        return self.requests.values(Given(tuple(stated.items())))

    def stated(self) -> dict[str, Value]:
        """Texts where they can be found, then what the request would otherwise have another value of."""
        best: dict[str, Value] = {}
        for texts in (*self._texts(), {}):
            best = dict(texts)
            while wrong := self._wrong(best):
                best |= wrong
            if not any(" has " in name for name in best):
                break
        order = list(self.policy.signals)
        return dict(sorted(best.items(), key=lambda pair: order.index(pair[0])))

    def relaxed(self, stated: Mapping[str, Value], holds: Holds) -> dict[str, Value]:
        """Without the numbers that the texts have themselves, as far as `holds` allows."""
        if not any(isinstance(self.policy.signals[name].type, TextType) for name in stated):
            return dict(stated)
        left = dict(stated)
        for name in [name for name in stated if name in SIGNALS and SIGNALS[name].content == "messages" and " has " not in name]:
            tried = {other: value for other, value in left.items() if other != name}
            if not isinstance(self.policy.signals[name].type, TextType) and holds(_plain(self.policy, self.seen(tried))):
                left = tried
        return left

    def _wrong(self, stated: Mapping[str, Value]) -> dict[str, Value]:
        """Signals that have another value than they should and are not stated yet: matches first, as others follow from them."""
        seen = self.seen(stated)
        wrong = {name: self.values[name] for name in self.names if name not in stated and not self._same(name, seen[name])}
        matches = {name: value for name, value in wrong.items() if " has " in name}
        return matches or wrong

    def _same(self, name: str, seen: Value) -> bool:
        wanted = self.values[name]
        signal = self.policy.signals[name]
        if isinstance(signal.type, EnumType) and signal.type.open:  # members that the policy doesn't name are one
            known = signal.type.members
            return seen == wanted or (seen not in known and wanted not in known)
        return seen == wanted

    def _texts(self) -> Iterator[dict[str, Value]]:
        """Texts that may do, the fewest first."""
        wanted = {text: self._sets(text, True) for text in ("prompt", "last", "system")}
        if not any(wanted.values()):
            return
        phrases = Phrases(self.policy)
        found = {text: phrases.text(wanted[text], self._sets(text, False)) for text in ("last", "system")}
        if None in found.values():
            return
        said = set().union(*(phrases.found(str(text)) for text in found.values()))
        rest = phrases.text([name for name in wanted["prompt"] if name not in said], self._sets("prompt", False))
        texts: dict[str, Value] = {name: text for name, text in (("prompt", rest), *found.items()) if text}
        if rest is not None and texts:
            yield texts
            yield {"last": GREETING, **texts}

    def _sets(self, text: str, value: bool) -> list[str]:
        return [signal.words for signal in self.matches if signal.text == text and self.values[signal.name] is value]


def _pair(signal: Signal, value: Value) -> str:
    match signal.type:
        case BoolType() if signal.kind == "match":
            return signal.name if value else signal.name.replace(" has ", " not has ")
        case BoolType():
            return signal.name if value else f"{signal.name} false"
        case IntType():
            return f"{signal.name} {_number(int(value))}"
        case EnumType() if value == ANY_OTHER:
            return f'{signal.name} "{UNNAMED}"'
        case EnumType() if _NAME.fullmatch(str(value)):
            return f"{signal.name} {value}"
        case KeyType() | TextType() | EnumType():
            return f'{signal.name} "{value}"'


def _number(value: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value and value % size == 0:
            return f"{value // size}{letter}"
    return str(value)
