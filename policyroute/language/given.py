"""What a test gives: values of signals, matches, and the words that stand for a part of a request.

`request`, `history`, `time`, `header` and `metadata` are words of the language in a test only, and only where the policy
declares no signal of that name: a declared signal is meant by its name. `header` and `metadata` with two texts are never one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from policyroute.language import syntax
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.expressions import Scope
from policyroute.language.policy import ANY_OTHER, NONE, BoolType, EnumType, Given, IntType, KeyType, TextType, Value
from policyroute.language.source import Span

FILES = ("request", "history")
PLACES = ("header", "metadata")
TIME = "time"
_BODY = ("messages", "input", "prompt")  # one of these holds a request's messages, in every API
_EXAMPLES: dict[type, str] = {
    IntType: "write `{} 5`", EnumType: "write `{} MEMBER`", KeyType: 'write `{} "..."`', TextType: 'write `{} "..."`',
}  # fmt: skip


def recorded_paths(test: syntax.Test, declared: frozenset[str]) -> Iterator[syntax.Name]:
    """The files that a test's requests are read from, where `declared` are the names of the policy's own signals."""
    for step in test.steps:
        for pair in step.pairs:
            if pair.name.value in FILES and pair.name.value not in declared and pair.quoted and not pair.key and pair.value:
                yield syntax.Leaf(str(pair.value.value), pair.value.span)


@dataclass
class _Found:
    """What is gathered from the pairs of one step."""

    values: dict[str, Value] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Value] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


@dataclass
class GivenChecker:
    """Checks what tests give; `recorded` holds the texts of the files that they name, those that could be read."""

    scope: Scope
    recorded: Mapping[str, str]

    def given(self, step: syntax.Step) -> Given:
        """The step's request. What is wrong is reported and left out."""
        found = _Found()
        for pair in step.pairs:
            title = _title(pair)
            if title in found.seen:
                self.scope.report("duplicate-item", f"`{title}` is given twice", pair.name.span, "give it once")
            before = len(self.scope.diagnostics)
            self._pair(pair, title, found)
            if len(self.scope.diagnostics) == before:
                found.seen.add(title)
        both = [pair.name for pair in step.pairs if pair.name.value in FILES and pair.name.value in found.parts]
        if len({name.value for name in both}) > 1:
            self._bad("a recorded request has a history of its own", both[-1].span, "give one of `request` and `history`")
        repeated = step.repeated.value if step.repeated else 1
        if repeated < 1 and step.repeated:
            self._bad("a request is sent at least once", step.repeated.span, "write `repeated 1 times` or more")
        headers, metadata = tuple(found.headers.items()), tuple(found.metadata.items())
        return Given(
            tuple(found.values.items()), max(repeated, 1), step.span, headers=headers, metadata=metadata, **found.parts
        )  # fmt: skip

    def _pair(self, pair: syntax.Pair, title: str, found: _Found) -> None:
        name = pair.name.value
        word = name not in self.scope.signals
        if pair.words:
            if self._match(pair, pair.words):
                found.values[title] = not pair.negated
        elif pair.key or (word and name in PLACES):
            self._place(pair, found)
        elif word and name == TIME:
            found.parts |= self._time(pair)
        elif word and name in FILES:
            found.parts |= self._file(pair)
        elif (value := self._value(pair)) is not None:
            found.values[name] = value

    # -- matches, and parts of a request -----------------------------------------------------------------------------

    def _match(self, pair: syntax.Pair, words: syntax.Name) -> bool:
        """Whether `prompt has urgent` names a text and a set."""
        texts = [signal.name for signal in self.scope.signals.values() if isinstance(signal.type, TextType)]
        if pair.name.value not in texts:
            help_ = did_you_mean(pair.name.value, texts) or f"texts are {', '.join(f'`{text}`' for text in texts)}"
            self.scope.report("not-a-text", f"`{pair.name.value}` is not a text", pair.name.span, help_)
            return False
        if words.value not in self.scope.texts:
            help_ = did_you_mean(words.value, self.scope.texts) or f'declare it: `words {words.value} = "..."`'
            self.scope.report("unknown-words", f"no words or pattern are named `{words.value}`", words.span, help_)
            return False
        return True

    def _place(self, pair: syntax.Pair, found: _Found) -> None:
        name = pair.name.value
        if name not in PLACES:
            self._bad(
                f"`{name}` has one value", pair.name.span, 'only `header` and `metadata` have a name: `header "x-plan" "pro"`'
            )
        elif pair.key is None or pair.value is None:
            self._bad(f"`{name}` needs a name and a value", pair.name.span, f'write `{name} "plan" "pro"`')
        elif name == "header":
            found.headers[pair.key.value] = str(pair.value.value)
        else:
            found.metadata[pair.key.value] = pair.value.value

    def _time(self, pair: syntax.Pair) -> dict[str, datetime]:
        written = str(pair.value.value) if pair.value and pair.quoted else ""
        try:
            at = datetime.fromisoformat(written)
        except ValueError:
            span = pair.value.span if pair.value else pair.name.span
            self._bad("`time` is a moment in quotes", span, 'write `time "2026-11-25T10:00:00Z"`; without a zone it is UTC')
            return {}
        return {"time": at if at.tzinfo else at.replace(tzinfo=UTC)}

    def _file(self, pair: syntax.Pair) -> dict[str, str]:
        name = pair.name.value
        if pair.value is None or not pair.quoted:
            self._bad(f"`{name}` is a file", pair.name.span, f'write `{name} "cases/{name}.json"`, a path beside the policy')
            return {}
        path = str(pair.value.value)
        text = self.recorded.get(path)
        if text is None:
            return {}  # it couldn't be read, which is reported where that was tried
        wrong = _wrong(name, text)
        if wrong:
            help_ = (
                "it is the body of a call to Chat Completions, Responses or Messages"
                if name == "request"
                else "it is a list of messages, or a body with `messages`"
            )
            self._bad(f"`{path}` {wrong}", pair.value.span, help_)
            return {}
        return {name: text}

    # -- values ------------------------------------------------------------------------------------------------------

    def _value(self, pair: syntax.Pair) -> Value | None:
        name = pair.name.value
        signal = self.scope.signals.get(name)
        if signal is None:
            self.scope.report(
                "unknown-name",
                f"no signal is named `{name}`",
                pair.name.span,
                did_you_mean(name, (*self.scope.signals, *FILES, *PLACES, TIME))
                or "a test gives values to signals, built in or declared",
            )
            return None
        written = pair.value.value if pair.value else None
        if written is None and not isinstance(signal.type, BoolType):
            return self._bad(f"`{name}` needs a value", pair.name.span, _EXAMPLES[type(signal.type)].format(name))
        span = pair.value.span if pair.value else pair.name.span
        match signal.type:
            case IntType(low, high):
                if isinstance(written, int) and low <= written <= high:
                    return written
                return self._bad(f"`{name}` is a number from {low} to {high}", span, f"write `{name} {low}`")
            case BoolType():
                if written in (None, "true", "false") and not pair.quoted:
                    return written != "false"
                return self._bad(f"`{name}` is true or false", span, f"write `{name}` or `{name} false`")
            case EnumType() as type_:
                return self._member(name, type_, written, pair.quoted, span)
            case _:
                if isinstance(written, str) and pair.quoted:
                    return written
                return self._bad(f"`{name}` is a text", span, f'write `{name} "..."`')

    def _member(self, name: str, type_: EnumType, written: str | int | None, quoted: bool, span: Span) -> Value | None:
        if name == "requested":
            if isinstance(written, str) and (written in self.scope.models or quoted):
                return written if written in self.scope.models else ANY_OTHER
            return self._bad(
                f"no model is named `{written}`",
                span,
                did_you_mean(str(written), self.scope.models) or "put the id of a model that isn't declared in quotes",
            )
        if isinstance(written, str) and (type_.open or written in type_.all):
            return written
        members = (*type_.all, NONE) if type_.open else type_.all
        return self._bad(
            f"`{name}` has no member `{written}`",
            span,
            did_you_mean(str(written), members) or f"its members are {', '.join(f'`{m}`' for m in members)}",
        )

    def _bad(self, message: str, span: Span, help_: str) -> Value | None:
        self.scope.report("bad-given", message, span, help_)
        return None


def _title(pair: syntax.Pair) -> str:
    """What can be given once: `prompt has urgent`, `header "x-plan"`, a signal's name."""
    if pair.words:
        return f"{pair.name.value} has {pair.words.value}"
    if pair.key:
        key = pair.key.value.lower() if pair.name.value == "header" else pair.key.value
        return f'{pair.name.value} "{key}"'
    return pair.name.value


def _wrong(name: str, text: str) -> str:
    """Why a file's text is no request or history, or the empty string."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {str(error)[:80].lower()}"
    if name == "request":
        return "" if isinstance(found, dict) and any(key in found for key in _BODY) else "holds no request"
    messages = found.get("messages") if isinstance(found, dict) else found
    return "" if isinstance(messages, list) and all(isinstance(one, dict) for one in messages) else "holds no messages"
