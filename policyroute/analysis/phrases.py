"""Texts in which wanted sets of words and patterns occur, and unwanted ones don't."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from policyroute.language.policy import Policy, TextSet
from policyroute.signals.text import Scanner

_SAMPLES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_NOT_WORD": ".",
}
_LONGEST = 40  # repetitions that a sample is written out for


class Phrases:
    """Finds texts for the sets of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.sets = policy.texts
        self._scanner = Scanner(tuple(policy.texts.values()))
        self._samples: dict[str, list[str]] = {}

    def text(self, wanted: Sequence[str], unwanted: Collection[str]) -> str | None:
        """One phrase of each wanted set, so that none of the unwanted ones occurs; None where none was found."""
        parts: list[str] = []
        for name in wanted:
            if name in self.found(". ".join(parts)):
                continue
            fitting = [sample for sample in self._of(name) if not self.found(". ".join([*parts, sample])) & set(unwanted)]
            if not fitting:
                return None
            parts.append(fitting[0])
        text = ". ".join(parts)
        return text if set(wanted) <= self.found(text) and not self.found(text) & set(unwanted) else None

    def found(self, text: str) -> set[str]:
        """The sets that occur in a text."""
        return set(self._scanner.names(self._scanner.mask(text)))

    def _of(self, name: str) -> list[str]:
        """Texts in which the set occurs, the shortest first."""
        if name not in self._samples:
            made = _samples(self.sets[name])
            usable = (sample for sample in made if '"' not in sample and "\n" not in sample and name in self.found(sample))
            self._samples[name] = sorted(dict.fromkeys(usable), key=len)
        return self._samples[name]


def _samples(text_set: TextSet) -> Iterable[str]:
    if text_set.phrases:
        return text_set.phrases
    try:
        tree = re._parser.parse(text_set.pattern)
        return [_sample(tree, choice) for choice in range(4)]
    except (re.error, LookupError, OverflowError):
        return []  # RE2 knows what Python's parser doesn't


def _sample(tree: Any, choice: int) -> str:
    return "".join(_part(operator, argument, choice) for operator, argument in tree)


def _part(operator: object, argument: Any, choice: int) -> str:
    """A text for one part of a pattern; `choice` picks among alternatives."""
    match str(operator):
        case "LITERAL":
            return chr(argument)
        case "ANY" | "NOT_LITERAL":
            return "x" if str(operator) == "ANY" or argument != ord("x") else "y"
        case "AT":
            return ""
        case "IN":
            return _member(argument)
        case "BRANCH":
            branches = argument[1]
            return _sample(branches[choice % len(branches)], choice)
        case "SUBPATTERN":
            return _sample(argument[-1], choice)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = argument
            times = max(least, min(most, choice % 2))
            if times > _LONGEST:
                raise OverflowError
            return "".join(_sample(inner, choice) for _ in range(times))
    raise LookupError(f"no sample of {operator}")


def _member(items: Sequence[tuple[object, Any]]) -> str:
    kinds = [(str(operator), argument) for operator, argument in items]
    if kinds[0][0] == "NEGATE":
        return next(sign for sign in "x1. -_Z" if not any(_holds(kind, argument, sign) for kind, argument in kinds[1:]))
    kind, argument = kinds[0]
    if kind == "RANGE":
        return chr(argument[0])
    return chr(argument) if kind == "LITERAL" else _SAMPLES[str(argument)]


def _holds(kind: str, argument: Any, sign: str) -> bool:
    if kind == "LITERAL":
        return bool(ord(sign) == argument)
    if kind == "RANGE":
        return bool(argument[0] <= ord(sign) <= argument[1])
    inside = {"DIGIT": sign.isdigit(), "SPACE": sign.isspace(), "WORD": sign.isalnum() or sign == "_"}
    name = str(argument).removeprefix("CATEGORY_")
    return not inside[name.removeprefix("NOT_")] if name.startswith("NOT_") else inside[name]
