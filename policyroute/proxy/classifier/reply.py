"""What a classifier's model said: its text in each API, and the member that the text names.

A member is named by its word, in any case, that is no part of a longer word; where it has a `_`, a space or hyphen will do, for
models write what they read. The longest name counts: `very_hard` isn't `hard`. What a model thinks aloud (`<think>`) is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from policyroute.proxy.wire.counts import items, mapping, text
from policyroute.proxy.wire.errors import cause_of, error_type
from policyroute.signals.request import Api

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_CUT = ("length", "max_tokens", "max_output_tokens")  # an answer that ended at its limit, in each API's word


class Words:
    """The members of a classifier, found in texts."""

    def __init__(self, members: Sequence[str]) -> None:
        self._members = sorted(members, key=len, reverse=True)
        words = (re.escape(member).replace("_", "[_ -]") for member in self._members)
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(f'({word})' for word in words)})(?!\w)", re.IGNORECASE)

    def only(self, said: str) -> str:
        """The one member that a text names; "" where it names none, or several."""
        found = {self._members[match.lastindex - 1] for match in self._pattern.finditer(said) if match.lastindex}
        return found.pop() if len(found) == 1 else ""


def said_in(api: Api, answer: Mapping[str, Any]) -> str:
    """The text of a whole answer, without what was thought; "" where it has none."""
    if api == "messages":
        parts = items(answer.get("content"))
    elif api == "responses":
        parts = [part for item in items(answer.get("output")) for part in items(mapping(item).get("content"))]
    else:
        parts = [part for choice in items(answer.get("choices"))[:1] for part in _content(mapping(mapping(choice).get("message")))]
    kinds = ("text", "output_text")
    told = "\n".join(text(part.get("text")) for part in map(mapping, parts) if part.get("type") in kinds)
    return _THOUGHT.sub("", told).strip()


def _content(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else items(content)


def ran_out(said: str, finish_reason: str) -> bool:
    """Whether an answer came to its limit before it said a word."""
    return not said and finish_reason in _CUT


def failure_in(answer: Mapping[str, Any]) -> str:
    """The status of an error that came with 200, "" where the answer is none."""
    error = isinstance(answer.get("error"), dict) and not any(answer.get(name) for name in ("choices", "output", "content"))
    return cause_of(error_type(answer)) if error else ""
