"""What a classifier's model is shown, and the request that shows it in each API.

- The policy's `prompt` is the instruction, word by word. What it is asked about is the user's message: a text of the request, or its
  last messages, each behind its role. System messages are no part of a conversation here: they are the text `system`.
- Of what is asked about, the end is shown, `SHOWN` characters at most (about 8,000 tokens): a classifier is there to save money, so
  it doesn't read a long history at its own price. Pictures are shown as the word for one, blocks of unknown kinds not at all.
- The answer is one word, so its length is limited: `ROOM` tokens, and `THINKING` for models that think before they answer.
- Models differ in what they take: the word for the limit, a temperature, an effort. A `Manner` says it. It is guessed from provider
  and id, and corrected by what the provider complains of: the next question is then asked as it wants it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from policyroute.language.policy import Model
from policyroute.language.statements import Classifier
from policyroute.proxy.providers import PROVIDERS, provider_of
from policyroute.signals.facts import SEPARATOR, Facts
from policyroute.signals.request import Api, Message

SHOWN = 32_000  # characters
ROOM, THINKING = 64, 2_048  # tokens of an answer
COMPLAINT = 4_096  # characters of a provider's error that are looked at

_DATED = r"(?:-\d{4}-\d\d-\d\d)?"
_THINKS = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d)(?!.*chat))")
_EFFORTS = (
    (re.compile(rf"(?:.*/)?gpt-5(?:-mini|-nano)?{_DATED}"), "minimal"),
    (re.compile(rf"(?:.*/)?gpt-5\.\d+(?:-mini|-nano)?{_DATED}"), "none"),
)  # the least that each takes; "low" is taken by most others


class Manner(NamedTuple):
    """How a model is asked. `limit` is Chat's word for the limit, `room` the limit in tokens, `temperature` whether 0 is said,
    `effort` how hard it is to think, "" where that isn't said."""

    limit: str = "max_tokens"
    room: int = ROOM
    temperature: bool = True
    effort: str = ""


def manner_of(model: Model) -> Manner:
    """How a model is asked as long as it hasn't complained.

    OpenAI and Azure want `max_completion_tokens`, which others (Mistral) refuse; `max_tokens` is what every other server knows.
    """
    thinks = _THINKS.match(model.id) is not None
    own = provider_of(model) in (PROVIDERS["openai"], PROVIDERS["azure"])
    limit = "max_completion_tokens" if own or thinks else "max_tokens"
    if not thinks:
        return Manner(limit)
    effort = next((effort for pattern, effort in _EFFORTS if pattern.fullmatch(model.id)), "low")
    return Manner(limit, THINKING, temperature=False, effort=effort)


def corrected(manner: Manner, complaint: str) -> Manner:
    """The manner after a provider refused a request with `complaint`, the text of its error: without what that names."""
    text = complaint[:COMPLAINT].lower()
    if "temperature" in text:
        manner = manner._replace(temperature=False)
    if "reasoning" in text or "effort" in text:
        manner = manner._replace(effort="")
    if "output limit" in text:  # of a model that thought until the limit
        return widened(manner)
    if manner.limit in text:
        manner = manner._replace(limit="max_tokens" if manner.limit == "max_completion_tokens" else "max_completion_tokens")
    return manner


def widened(manner: Manner) -> Manner:
    """The manner for a model that spent its answer on thinking."""
    return manner._replace(room=THINKING)


def body_of(api: Api, model: Model, prompt: str, text: str, manner: Manner) -> dict[str, Any]:
    """The request that shows a model `text` under the instruction `prompt`."""
    user = {"role": "user", "content": text}
    cold = {"temperature": 0} if manner.temperature else {}
    if api == "messages":
        return {"model": model.id, "system": prompt, "messages": [user], "max_tokens": manner.room, **cold}
    if api == "responses":
        effort: dict[str, Any] = {"reasoning": {"effort": manner.effort}} if manner.effort else {}
        head = {"model": model.id, "instructions": prompt, "input": [user], "store": False}
        return {**head, "max_output_tokens": manner.room, **cold, **effort}
    effort = {"reasoning_effort": manner.effort} if manner.effort else {}
    messages = [{"role": "system", "content": prompt}, user]
    return {"model": model.id, "messages": messages, manner.limit: manner.room, **cold, **effort}


def shown(classifier: Classifier, facts: Facts) -> str:
    """What the model is asked about; empty where the request has nothing of it."""
    if classifier.messages:
        text = _conversation(facts.content.messages or (), classifier.messages)
    else:
        text = _text(classifier.text or "last", facts).replace(SEPARATOR, "\n\n")
    return text[-SHOWN:].strip()


def _text(name: str, facts: Facts) -> str:
    found: str | None = getattr(facts, name)
    return found or ""


def _conversation(messages: tuple[Message, ...], last: int) -> str:
    spoken = [message for message in messages if message.role != "system"]
    return "\n\n".join(filter(None, map(_told, spoken[-last:])))


def _told(message: Message) -> str:
    """A message behind its role: its results and texts, the tools that it calls, and a word for each picture."""
    parts = [text for result in message.results for text in result.texts]
    parts += message.texts
    parts += [f"[calls {call.name} {call.arguments}]" for call in message.calls]
    parts += ["[picture]"] * len(message.pictures)
    said = "\n".join(parts).strip()
    return f"{message.role}: {said}" if said else ""
