"""JSON that the library mustn't touch, kept aside behind a place holder.

It sorts an object's members and rounds whole numbers of more than 64 bits. A schema whose members are in another order makes a
model write them in another order (an answer before its reasons), so schemas and the arguments of calls are hidden from it.
"""

from __future__ import annotations

import json
from typing import Any

_MARK = "policyroute-veil"
MALFORMED = "malformed_arguments"
"""The member that holds the text of a call's arguments where they are no JSON object and the other API wants one."""


class Veil:
    """What is hidden of one body."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def hide(self, value: object) -> dict[str, Any]:
        """A place holder for a JSON value."""
        self._kept.append(value)
        return {_MARK: len(self._kept) - 1}

    def hide_text(self, arguments: str) -> str:
        """A place holder for the object that a call's arguments are the text of."""
        return json.dumps(self.hide(parsed(arguments)), separators=(",", ":"))

    def shown(self, value: object) -> Any:
        """What a place holder stands for; anything else is itself."""
        place = value.get(_MARK) if isinstance(value, dict) else None
        return self._kept[place] if isinstance(place, int) else value

    def shown_text(self, text: str) -> str:
        """The JSON text of what a place holder's text stands for; any other text is itself."""
        return written(self.shown(json.loads(text))) if text.startswith(f'{{"{_MARK}"') else text


def parsed(arguments: str) -> dict[str, Any]:
    """The object that a call's arguments are the text of; none is the empty one, and what is no object is kept as text."""
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {MALFORMED: arguments}


def written(value: object) -> str:
    """A JSON value as text, its members in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value
