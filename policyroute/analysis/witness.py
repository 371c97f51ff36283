"""A request that shows something, as a test would give it: texts instead of matches, and nothing that need not be said.

Rules of this module
- What a witness says is what its test gives: `values` are those that the test's request has, `decision` is the reference's of them.
- A match is shown by a text in which it occurs; where no text is found for all matches together, each is stated itself.
- What a policy can't hold in quotes is replaced: a key by one that is decided alike, a member by one that no policy names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from policyroute.analysis.phrases import Phrases, sayable
from policyroute.analysis.shrink import Holds
from policyroute.language.decision import Decision
from policyroute.language.formatter import LINE, format_source
from policyroute.language.limits import read_signals
from policyroute.language.policy import (
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
from policyroute.language.source import Source
from policyroute.language.vocabulary import SIGNALS
from policyroute.signals.given import Requests
from policyroute.signals.members import other

KEYS = 5_000  # keys that are tried for one that is decided like another
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_WORDS = frozenset({"has", "not", "expect", "repeated"})  # names that a test reads otherwise where a value could stand


@dataclass(frozen=True, slots=True)
class Witness:
    """`given` is what stands behind the word in a test, `values` what the policy then sees, `decision` what it decides."""

    given: str
    decision: Decision
    values: Mapping[str, Value]

    def test(self, name: str) -> str:
        """A `test` block of this name that expects the decision, as `fmt` lays it out."""
        way = ", ".join(self.decision.chain) or "refused"
        quoted = " ".join(name.replace('"', "'").split())
        block = f'test "{quoted}" {{\n  given {self.given}\n  expect {self.decision.rule} -> {way}\n}}\n'
        return block if max(map(len, block.splitlines())) <= LINE else format_source(Source("", block))


class Witnesses:
    """Makes the witnesses of one policy. Its scanners, which take most of the time, are made once."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.requests = Requests(policy)
        claimed = (name for guarantee in policy.guarantees for name in reads(guarantee.condition))
        self.names = tuple(dict.fromkeys((*read_signals(policy), *claimed)))

    @cached_property
    def phrases(self) -> Phrases:
        """Texts for the policy's sets."""
        return Phrases(self.policy)

    def of(self, values: Mapping[str, Value], holds: Holds | None = None) -> Witness:
        """The request of `values`, which hold every signal but texts (keys may be missing), as a test would give it.

        With `holds`, what texts say of themselves (their tokens) is left to them wherever `holds` stays true of what is then seen.
        """
        made = _Maker(self, _said(self.policy, values))
        stated = made.stated()
        if holds is not None:
            stated = made.relaxed(stated, holds)
        seen = made.seen(stated)
        decided = _plain(self.policy, seen)
        stated |= {name: seen[name] for name in _asked(self.policy, decided) if name not in stated}
        return Witness(self._given(stated, decided), decide(self.policy, decided), decided)

    def _given(self, stated: Mapping[str, Value], seen: Mapping[str, Value]) -> str:
        given = stated or {self._simple: seen[self._simple]}  # a test has to give something
        return ", ".join(_pair(self.policy.signals[name], value) for name, value in given.items())

    @cached_property
    def _simple(self) -> str:
        """A signal to give where nothing differs: the first number or condition that is read."""
        signals = self.policy.signals
        return next((name for name in self.names if isinstance(signals[name].type, IntType | BoolType)), "tokens")


def witness(policy: Policy, values: Mapping[str, Value], holds: Holds | None = None) -> Witness:
    """`Witnesses(policy).of(values, holds)`, for one request alone."""
    return Witnesses(policy).of(values, holds)


def _said(policy: Policy, values: Mapping[str, Value]) -> dict[str, Value]:
    """The values with those replaced that can't be written down."""
    found = dict(values)
    for name, value in values.items():
        signal = policy.signals[name]
        if isinstance(value, str) and not sayable(value):
            found[name] = _alike(policy, found, name) if isinstance(signal.type, KeyType) else other(signal)
    return found


def _alike(policy: Policy, values: Mapping[str, Value], key: str) -> str:
    """A key that is decided as the one in `values`, or none where no such key is found soon."""
    wanted = decide(policy, values)
    tried = (f"{key}-{number}" for number in range(KEYS))
    return next((one for one in tried if decide(policy, {**values, key: one}) == wanted), "")


def _plain(policy: Policy, seen: Mapping[str, Value]) -> dict[str, Value]:
    return {name: seen[name] for name, signal in policy.signals.items() if not isinstance(signal.type, TextType)}


def _asked(policy: Policy, values: Mapping[str, Value]) -> list[str]:
    """Classifiers that the decision reads: a test has to say their answer, whatever it is."""
    classifiers = [name for name, signal in policy.signals.items() if signal.kind == "classifier"]
    read: set[str] = set()

    class Noted(dict[str, Value]):
        def __getitem__(self, name: str) -> Value:
            read.add(name)
            return super().__getitem__(name)

    if classifiers:
        decide(policy, Noted(values))
    return [name for name in classifiers if name in read]


class _Maker:
    def __init__(self, tools: Witnesses, values: Mapping[str, Value]) -> None:
        self.tools, self.values = tools, values
        self.policy = policy = tools.policy
        self.names = [name for name in tools.names if name in values]
        self.matches = [policy.signals[name] for name in self.names if policy.signals[name].kind == "match"]

    def seen(self, stated: Mapping[str, Value]) -> Mapping[str, Value]:
        """What the policy sees of a request in which this is given."""
        return self.tools.requests.values(Given(tuple(stated.items())))

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
        return dict(sorted(self._needed(best).items(), key=lambda pair: order.index(pair[0])))

    def _needed(self, stated: dict[str, Value]) -> dict[str, Value]:
        """Without matches that others bring with them."""
        for name in [name for name in stated if " has " in name]:
            fewer = {other: value for other, value in stated.items() if other != name}
            if not self._wrong(fewer):
                stated = fewer
        return stated

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
        """Texts that may do, the fewest first. What the last message and the system's say, the prompt says too."""
        wanted = {text: self._sets(text, True) for text in ("prompt", "last", "system")}
        if not any(wanted.values()):
            return
        phrases, silent = self.tools.phrases, self._sets("prompt", False)
        found = {text: phrases.text(wanted[text], [*self._sets(text, False), *silent]) for text in ("last", "system")}
        if None in found.values():
            return
        said = set().union(*(phrases.found(str(text)) for text in found.values()))
        rest = phrases.text([name for name in wanted["prompt"] if name not in said], silent)
        texts: dict[str, Value] = {name: text for name, text in (("prompt", rest), *found.items()) if text}
        if rest is None or not texts:
            return
        yield texts
        filler = phrases.filler([*self._sets("last", False), *silent])
        if filler and "last" not in texts:
            yield {"last": filler, **texts}

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
        case EnumType() if _NAME.fullmatch(str(value)) and value not in _WORDS:
            return f"{signal.name} {value}"
        case KeyType() | TextType() | EnumType():
            return f'{signal.name} "{value}"'


def _number(value: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value and value % size == 0:
            return f"{value // size}{letter}"
    return str(value)
