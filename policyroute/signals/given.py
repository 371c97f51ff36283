"""The request that a test gives, as signal values: what is stated, what a live request's extraction says of the rest, defaults.

Rules of this module
- Texts become messages: `system` a system message, then the history, then `prompt` and `last` a user message each (one, where
  they are the same). Text signals and whatever is extracted from messages then are what a live request with these messages has.
- A recorded body is read as a live one. Beside it a stated text stands for that text alone; no message is added.
- What is stated has the last word. A stated match holds for the texts around it: `last has urgent` makes `prompt has urgent`
  true, unless that is stated too.
- Where no body is given, what a caller may leave out (tools, output limit, the model asked for) has its default, and so has what
  is extracted from messages where there are none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from policyroute.language.policy import REQUESTED, Given, Policy, Signal, TextType, Value, reads
from policyroute.language.vocabulary import SIGNALS
from policyroute.signals.facts import Facts
from policyroute.signals.implications import WITHIN, implications
from policyroute.signals.request import Content, of_body, of_row
from policyroute.signals.values import BOUNDED, Reader, Values

TEXTS = ("prompt", "last", "system")


def extracted(texts: Mapping[str, str], history: Sequence[object] = ()) -> dict[str, Value]:
    """Every signal that is read from messages, for a request that consists of these texts after `history` (messages as JSON).

    `texts` maps `prompt`, `last` and `system`, those that there are; the values are not held to a policy's narrower ranges.
    Empty where there are neither texts nor history: such signals then have their defaults.
    """
    content = _content(texts, history)
    if content.messages is None:
        return {}
    facts = Facts(content)
    return {name: getattr(facts, name) for name, row in SIGNALS.items() if row.content == "messages"}


class Requests:
    """Makes the requests of one policy's tests."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._reader = Reader(policy)

    def __call__(self, given: Given) -> Values:
        """The request as a live one's values: extracted when first read, with the bounds of costly numbers."""
        stated = dict(given.values)
        made = self._reader(self._facts(given))
        known = made.__dict__
        if not given.request and REQUESTED in self.policy.signals:
            known[self.policy.signals[REQUESTED].identifier] = self.policy.signals[REQUESTED].default
        for name, value in (self._implied(stated) | stated).items():
            signal = self.policy.signals.get(name)
            if signal is None or isinstance(signal.type, TextType):
                continue  # a match that no condition asks for; a text, which the facts hold
            if signal.kind == "match":
                getattr(made, signal.identifier)  # one scan answers all matches of a text, so it has to come before
            bounds = ("", "_LOW", "_HIGH") if name in BOUNDED else ("",)
            known.update({f"{signal.identifier}{bound}": value for bound in bounds})
        return made

    def values(self, given: Given) -> Mapping[str, Value]:
        """The values of all the policy's signals, texts included, each extracted when it is first read."""
        return _ByName(self.policy.signals, self(given))

    def _facts(self, given: Given) -> Facts:
        texts = {name: str(value) for name, value in given.values if name in TEXTS}
        content = of_body(json.loads(given.request)) if given.request else _content(texts, _messages(given.history))
        if given.metadata:
            metadata = {**(content.metadata or {}), **dict(given.metadata)}
            fields = None if content.fields is None else {**content.fields, "metadata": metadata}
            content = content._replace(metadata=metadata, fields=fields)
        facts = Facts(content, dict(given.headers), given.time, self.policy.timezone)
        if given.request:
            facts.__dict__.update(texts)
        return facts

    def _implied(self, stated: Mapping[str, Value]) -> dict[str, Value]:
        """Matches that the stated ones bring with them."""
        held = [name for name, value in stated.items() if " has " in name and value is True]
        found = {other for one in held for other in self._implications.get(one, ())} | {
            other for one in held for other in self._around(one)
        }
        return dict.fromkeys((name for name in sorted(found) if name not in stated), True)

    def _around(self, match: str) -> Iterator[str]:
        """The same match of the text that this one's text is a part of; of patterns nothing is known."""
        text, _, words = match.partition(" has ")
        if text in WITHIN and self.policy.texts[words].phrases:
            yield f"{WITHIN[text]} has {words}"

    @cached_property
    def _implications(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for implication in implications(self.policy):
            one, other = reads(implication)
            found.setdefault(one, []).append(other)
        return found


class _ByName(Mapping[str, Value]):
    """A request's values by the names of signals. What nobody reads is not extracted: a tokenizer takes a second to load."""

    def __init__(self, signals: Mapping[str, Signal], made: Values) -> None:
        self._signals = signals
        self._made = made

    def __getitem__(self, name: str) -> Value:
        value: Value = getattr(self._made, self._signals[name].identifier)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)


def _content(texts: Mapping[str, str], history: Sequence[object]) -> Content:
    if not texts and not history:
        return Content()
    said = [("system", texts.get("system")), *(("user", text) for text in _spoken(texts))]
    system = [{"role": role, "content": text} for role, text in said if role == "system" and text is not None]
    return of_row([*system, *history, *({"role": role, "content": text} for role, text in said if role == "user")])


def _spoken(texts: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(texts[name] for name in ("prompt", "last") if name in texts))


def _messages(history: str) -> list[object]:
    """The earlier messages: those of a list, or of a body's `messages`."""
    found = json.loads(history) if history else []
    return list(found["messages"] if isinstance(found, dict) else found)
