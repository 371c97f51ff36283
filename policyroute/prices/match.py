"""Clauses that say which model ids a library entry stands for, as data: `["or", [["equals", "gpt-4o"], ...]]`.

The meanings are genai-prices': text is compared in lower case, a regular expression is searched in the lower-case text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import cache
from typing import Any

Clause = list[Any]
Matcher = Callable[[str], bool]

_ID_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def matcher(clause: Clause) -> Matcher:
    """A test for lower-case texts. Raises ValueError for a clause of a kind that isn't known."""
    kind, wanted = clause
    match kind:
        case "and":
            parts = [matcher(part) for part in wanted]
            return lambda text: all(part(text) for part in parts)
        case "or":
            parts = [matcher(part) for part in wanted]
            return lambda text: any(part(text) for part in parts)
        case "regex":
            return lambda text: _pattern(wanted).search(text) is not None
        case _:
            return _comparison(kind, wanted.lower())


def dashed_dates(model_id: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: resellers write dates without dashes."""
    return _ID_DATE.sub(_dashed, model_id)


def _dashed(found: re.Match[str]) -> str:
    try:
        return f"-{date(*(int(part) for part in found.groups()))}"
    except ValueError:
        return found[0]


def _comparison(kind: str, wanted: str) -> Matcher:
    match kind:
        case "equals":
            return lambda text: text == wanted
        case "starts_with":
            return lambda text: text.startswith(wanted)
        case "ends_with":
            return lambda text: text.endswith(wanted)
        case "contains":
            return lambda text: wanted in text
        case _:
            raise ValueError(f"unknown clause `{kind}`")


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
