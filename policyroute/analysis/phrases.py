"""Texts in which wanted sets of words and patterns occur, and unwanted ones don't.

What a text says is for the scanner alone to tell: a sample of a pattern is a guess, made from the tree that Python's parser
makes of it, and one that the scanner doesn't find again is dropped. Where nothing fits, there is no text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from policyroute.language.policy import Policy, TextSet
from policyroute.signals.text import Scanner

FILLERS = ("Hello", "Good morning", "Thank you", "One, two, three", "So it goes", "...")  # texts that say next to nothing
UNSAYABLE = frozenset('"\n\r\0')  # a text in quotes can't hold these

_SAMPLES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_NOT_WORD": ".",
}
_NEGATED = "x1. -_Z"  # one of these is outside most classes
_CHOICES = 8  # samples that are made of one pattern
_FITTING = 24  # samples of one set that are tried
_LONGEST = 40  # repetitions that a sample is written out for
_MOST = 400  # characters of a sample

# What RE2 writes otherwise than Python: classes by name, the text's end, flags in the middle, which no sample depends on.
_CLASSES = {
    r"\\[pP](?:\{\^?\w+\}|\w)": r"[A-Za-z]",
    r"\[\[:\^?(?:alpha|alnum|word|lower):\]\]": "[a-z]",
    r"\[\[:\^?upper:\]\]": "[A-Z]",
    r"\[\[:\^?(?:digit|xdigit):\]\]": "[0-9]",
    r"\[\[:\^?(?:space|blank):\]\]": "[ ]",
    r"\[\[:\^?punct:\]\]": "[.]",
    r"\\z": r"\\Z",
    r"\(\?[a-zA-Z-]+\)": "",
    r"\(\?[a-zA-Z-]+:": "(?:",
    r"\(\?P?<\w+>": "(?:",
}


def sayable(text: str) -> bool:
    """Whether a policy can hold `text` in quotes."""
    return not UNSAYABLE.intersection(text) and not any("\ud800" <= sign <= "\udfff" for sign in text)


class Phrases:
    """Finds texts for the sets of one policy."""

    def __init__(self, policy: Policy) -> None:
        self.sets = policy.texts
        self._scanner = Scanner(tuple(policy.texts.values()))
        self._samples: dict[str, list[str]] = {}

    def text(self, wanted: Sequence[str], unwanted: Collection[str]) -> str | None:
        """One phrase of each wanted set, so that none of the unwanted ones occurs; None where none was found.

        Which set comes first matters to patterns that ask for a text's ends: each is tried there.
        """
        if not set(wanted).isdisjoint(unwanted):
            return None
        orders = ([*wanted[place:], *wanted[:place]] for place in range(max(len(wanted), 1)))
        return next((text for order in orders if (text := self._joined(order, frozenset(unwanted))) is not None), None)

    def filler(self, unwanted: Collection[str]) -> str | None:
        """A text that says nothing of the unwanted sets; None where each one that is known does."""
        return next((text for text in FILLERS if self.found(text).isdisjoint(unwanted)), None)

    def found(self, text: str) -> set[str]:
        """The sets that occur in a text."""
        return set(self._scanner.names(self._scanner.mask(text)))

    def _joined(self, wanted: Sequence[str], unwanted: frozenset[str]) -> str | None:
        text = ""
        for name in wanted:
            if name in self.found(text):
                continue
            tried = (f"{text}. {sample}" if text else sample for sample in self._of(name))
            longer = next((one for one in tried if name in (seen := self.found(one)) and seen.isdisjoint(unwanted)), None)
            if longer is None:
                return None
            text = longer
        return text if set(wanted) <= self.found(text) else None

    def _of(self, name: str) -> list[str]:
        """Texts in which the set occurs, the shortest first."""
        if name not in self._samples:
            made = sorted(dict.fromkeys(_samples(self.sets[name])), key=len)
            usable = (sample for sample in made if len(sample) <= _MOST and sayable(sample) and name in self.found(sample))
            self._samples[name] = list(islice(usable, _FITTING))
        return self._samples[name]


def _samples(text_set: TextSet) -> Iterable[str]:
    if text_set.phrases:
        return (" ".join(phrase.split()) for phrase in text_set.phrases)
    return _of_pattern(text_set.pattern)


def _of_pattern(pattern: str) -> Iterator[str]:
    for written, plain in _CLASSES.items():
        pattern = re.sub(written, plain, pattern)
    try:
        with warnings.catch_warnings(action="ignore"):  # of syntax that Python may read otherwise some day
            tree = re._parser.parse(pattern)
        for choice in range(_CHOICES):
            sample = _sample(tree, choice)
            yield sample
            yield f"{sample} {FILLERS[0]}"  # it may want more behind it
    except (re.error, LookupError, OverflowError, RecursionError):
        return  # what Python's parser doesn't know, or no sample is made of


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
            return _member(argument, choice)
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
    return _none(str(operator))


def _none(what: str) -> str:
    raise LookupError(f"no sample of {what}")


def _member(items: Sequence[tuple[object, Any]], choice: int) -> str:
    kinds = [(str(operator), argument) for operator, argument in items]
    if kinds[0][0] == "NEGATE":
        outside = [sign for sign in _NEGATED if not any(_holds(kind, argument, sign) for kind, argument in kinds[1:])]
        return outside[choice % len(outside)] if outside else _none("a class")
    kind, argument = kinds[choice % len(kinds)]
    if kind == "RANGE":
        return chr(argument[0] + choice % (argument[1] - argument[0] + 1))
    return chr(argument) if kind == "LITERAL" else _SAMPLES[str(argument)]


def _holds(kind: str, argument: Any, sign: str) -> bool:
    if kind == "LITERAL":
        return bool(ord(sign) == argument)
    if kind == "RANGE":
        return bool(argument[0] <= ord(sign) <= argument[1])
    inside = {"DIGIT": sign.isdigit(), "SPACE": sign.isspace(), "WORD": sign.isalnum() or sign == "_"}
    name = str(argument).removeprefix("CATEGORY_")
    return not inside[name.removeprefix("NOT_")] if name.startswith("NOT_") else inside[name]
