"""Word sets and patterns: which of them occur in a text, all in one pass of RE2.

Meaning
- `words`: a phrase occurs as whole words, in any case. Case is RE2's simple folding: `Σ σ ς` are one letter and so are `K` and
  the Kelvin sign; `ß` is not `ss`, and nothing is normalised (`é` as one character is not `e` and an accent).
- A boundary is the start or the end of the text or a character outside `[\\pL\\pN_]`. It is asked for beside a phrase's end only where
  that end is itself such a word character (`c++`, `#bug` work), and not where it is Han, Hiragana, Katakana or Hangul, whose
  scripts are written without spaces.
- White space inside a phrase stands for any run of white space; around it, it is dropped. Every other character stands for itself.
- `pattern`: RE2 as it stands. `^` and `$` are the text's ends unless the pattern says `(?m)`.
- A lone surrogate in a text is read as U+FFFD.

`expression` is the one definition: the scanner compiles it and SQL can test it (`regexp_matches(text, expression)`), both with
RE2. RE2 drops out of its automaton when memory ends, and its Python binding shows that as "no match"; hence the ample limit, the
probe of each set when a scanner is made, and the sentinel: a pattern that matches every text, without which an answer is void.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import re2

from policyroute.language.policy import TextSet
from policyroute.signals.tokens import sanitise

MEMORY = 256 << 20  # bytes that the automaton of a scanner may grow to; it starts small
_SENTINEL = r"\z"  # matches at the end of every text
_NEVER = r"[^\x{0}-\x{10FFFF}]"
_LEFT, _RIGHT = r"(?:\A|[^\pL\pN_])", r"(?:\z|[^\pL\pN_])"
_GAP = r"[\s\v\x{85}\pZ]+"
_SYNTAX = frozenset("\\.+*?()|[]{}^$")


class ScannerError(Exception):
    """RE2 can't compile the sets together, or an answer of it can't be trusted."""


def pattern_error(source: str) -> str | None:
    """Why RE2 refuses `source`, or None where it takes it."""
    try:
        _compiled(source)
    except (re2.error, UnicodeEncodeError) as error:
        return _message(error)
    return None


def expression(text_set: TextSet) -> str:
    """The RE2 source of a set: its pattern, or one alternation of its phrases with their boundaries."""
    if text_set.pattern:
        return text_set.pattern
    groups: dict[tuple[str, str], list[str]] = {}
    for phrase in dict.fromkeys(" ".join(phrase.split()) for phrase in text_set.phrases):
        if phrase:
            groups.setdefault((_bound(phrase[0], _LEFT), _bound(phrase[-1], _RIGHT)), []).append(_escaped(phrase))
    if not groups:
        return _NEVER
    return "(?i)(?:" + "|".join(f"{left}(?:{'|'.join(phrases)}){right}" for (left, right), phrases in groups.items()) + ")"


class Scanner:
    """Finds which of `sets` occur in a text. Immutable, safe to share between threads.

    Raises ScannerError where RE2 refuses a set (a checked policy's patterns are known to be good) or needs more memory.
    """

    __slots__ = ("_everything", "_match", "sets")

    def __init__(self, sets: Sequence[TextSet]) -> None:
        self.sets = tuple(sets)
        matcher = re2.Set.SearchSet(_options())
        for text_set in self.sets:
            _add(matcher, expression(text_set), text_set.name)
        sentinel = matcher.Add(_SENTINEL)
        try:
            matcher.Compile()
        except re2.error as error:
            raise ScannerError(f"{len(self.sets)} word sets and patterns need more than {MEMORY >> 20} MiB together") from error
        self._match = matcher.Match
        self._everything: int = 1 << sentinel
        self._probe()

    def mask(self, text: str) -> int:
        """Bit i is set where set i occurs in `text`. Raises ScannerError when RE2 runs out of memory."""
        try:
            found = self._match(text)
        except UnicodeEncodeError:
            found = self._match(sanitise(text))
        if not found:
            raise ScannerError(f"RE2 ran out of {MEMORY >> 20} MiB for {len(self.sets)} word sets and patterns")
        if len(found) == 1:
            return 0
        mask: int = 0
        for index in found:
            mask |= 1 << index
        return mask ^ self._everything

    def names(self, mask: int) -> tuple[str, ...]:
        """Names of the sets whose bit is set in `mask`."""
        return tuple(text_set.name for index, text_set in enumerate(self.sets) if mask >> index & 1)

    def _probe(self) -> None:
        """Every set alone must say what the scanner says on each set's first phrase, and each set of phrases must find its own."""
        alone = [_compiled(expression(text_set)) for text_set in self.sets]
        for index, text_set in enumerate(self.sets):
            probe = next((phrase for phrase in text_set.phrases if phrase.strip()), text_set.pattern)
            mask = self.mask(probe)
            expected = sum(1 << other for other, regexp in enumerate(alone) if regexp.search(probe))
            if mask != expected or (text_set.phrases and probe.strip() and not mask >> index & 1):
                raise ScannerError(f"`{text_set.name}` is not found in its own words {probe!r}")


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MEMORY
    options.log_errors = False
    return options


def _compiled(source: str) -> re2._Regexp:
    return re2.compile(source, _options())


def _add(matcher: re2.Set, source: str, name: str) -> None:
    try:
        matcher.Add(source)
    except (re2.error, UnicodeEncodeError) as error:
        raise ScannerError(f"RE2 refuses `{name}`: {pattern_error(source) or _message(error)}") from error


def _message(error: Exception) -> str:
    detail = error.args[0] if error.args else str(error)
    return detail.decode() if isinstance(detail, bytes) else str(detail)


def _escaped(phrase: str) -> str:
    return _GAP.join("".join(_literal(word)) for word in phrase.split())


def _literal(word: str) -> Iterable[str]:
    for character in word:
        if character in _SYNTAX:
            yield "\\" + character
        elif character < " ":
            yield f"\\x{{{ord(character):x}}}"
        else:
            yield character


def _bound(character: str, boundary: str) -> str:
    return boundary if _WORD.search(character) and not _UNSPACED.search(character) else ""


_WORD = _compiled(r"[\pL\pN_]")
_UNSPACED = _compiled(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー々]")
