"""`POST /v1/feedback`: what a user thinks of an answer, and whether the conversation is to get a better one.

    {"decision_id": "pr_...", "rating": "up"}                  up is 1, down is 0; or any number
    {"decision_id": "pr_...", "escalate": true}                the conversation's next hour has the signal `escalated`

- Ratings are lines of `feedback.lines` in the journal's folder; a replay joins them to their decisions as the column `feedback`, the last
  one of a decision (`simulate --outcome feedback`). Nothing else that is sent is kept.
- The decision's id ends in a hash of its conversation. So no table of decisions has to be kept to know whom a wish is for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

FILE = "feedback.lines"  # in the journal's folder; its ending is none that a trace has
WISH = 3_600_000_000  # microseconds for which a conversation stays escalated
RATINGS = {"up": 1.0, "down": 0.0, True: 1.0, False: 0.0}
_ID = re.compile(r"pr_[0-9a-f]{32}")
_RANDOM, _CODE = 20, 12  # hexadecimal digits of an id


class FeedbackError(Exception):
    """What was sent is no feedback; says what it has to be."""


class Feedback(NamedTuple):
    """A rating (None: none was given) of a decision, and the wish for a better answer; `conversation` is the code in the decision's id."""

    decision: str
    rating: float | None
    escalate: bool

    @property
    def conversation(self) -> str:
        """The code of the decision's conversation."""
        return self.decision[-_CODE:]


def decision_id(conversation: str) -> str:
    """A new id for a decision of a conversation ("" for a request that belongs to none)."""
    drawn = uuid4().hex
    return f"pr_{drawn[:_RANDOM]}{code(conversation)}" if conversation else f"pr_{drawn}"


def code(conversation: str) -> str:
    """A conversation's code in its decisions' ids."""
    return hashlib.sha256(conversation.encode("utf-8", "replace")).hexdigest()[:_CODE]


def feedback(fields: Mapping[str, Any]) -> Feedback:
    """The feedback in a parsed body. Raises FeedbackError."""
    decision, rating, escalate = fields.get("decision_id"), fields.get("rating"), fields.get("escalate", False)
    if not isinstance(decision, str) or not _ID.fullmatch(decision):
        raise FeedbackError("`decision_id` is the answer's header `x-policyroute-decision-id`")
    if type(escalate) is not bool:
        raise FeedbackError("`escalate` is true or false")
    if rating is None and not escalate:
        raise FeedbackError('give a `rating` ("up", "down" or a number), or `"escalate": true`')
    return Feedback(decision, None if rating is None else _number(rating), escalate)


def _number(rating: object) -> float:
    if isinstance(rating, str | bool) and rating in RATINGS:
        return RATINGS[rating]
    if isinstance(rating, int | float) and math.isfinite(rating) and abs(rating) <= 1e9:
        return float(rating)
    raise FeedbackError('`rating` is "up", "down" or a number')


def kept(folder: Path, found: Feedback, caller: str) -> None:
    """Write a rating down, whole or not at all. Raises OSError."""
    line = {"ts": datetime.now(UTC).isoformat(), "decision_id": found.decision, "feedback": found.rating, "caller": caller or None}
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(line, separators=(",", ":")).encode() + b"\n")
    finally:
        os.close(descriptor)
