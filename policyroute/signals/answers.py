"""Tokens of a recorded answer, for traces that hold the text and not the usage: an estimate in the unit of `tokens`."""

from __future__ import annotations

from policyroute.signals import billing, request
from policyroute.signals.tokens import count


def answer_tokens(output: object) -> int | None:
    """Tokens of an answer: its texts, and the names and arguments of its tool calls, without framing.

    `output` is JSON text of a message (or of a list of messages), or the answer's plain text; None stays None.
    """
    if output is None:
        return None
    parsed = request.parsed(output)
    if isinstance(parsed, dict):
        parsed = [{"role": "assistant", **parsed}]
    if not isinstance(parsed, list):
        return count(parsed if isinstance(parsed, str) else str(output))
    content = request.of_row(parsed)
    calls = [text for message in content.messages or () for call in message.calls for text in (call.name, call.arguments)]
    bills = [billing.of_message(message) for message in content.messages or ()]
    return sum(map(count, calls)) + sum(bill.tokens(count) for bill in bills)
