"""Whether an answer is too weak: what `escalate { when ... }` asks of it.

- `answer is empty`: no text but white space, and no tool call. `answer is truncated`: it ended at a limit of tokens. `answer is not json`: its
  text is no JSON, or not of the schema that the request asked for; text around the JSON, a fence included, is none.
- `answer has WORDS` scans its text. A tool call is no text.
- The request's own signals may stand beside these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from policyroute.language.policy import Policy, Value, reads
from policyroute.language.reference import evaluate
from policyroute.language.statements import Escalation
from policyroute.proxy.wire.counts import items, mapping
from policyroute.signals.text import Scanner
from policyroute.signals.values import Values

HAS, IS = "answer has ", "answer is "
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})


class Spoken(NamedTuple):
    """What an answer says: its text, whether it calls tools, and the provider's word for why it ended."""

    text: str
    calls: bool
    finish_reason: str


def spoken(answer: Mapping[str, Any], finish_reason: str) -> Spoken:
    """What a whole answer of any of the three APIs says."""
    texts: list[str] = []
    calls = False
    for choice in items(answer.get("choices")):
        message = mapping(mapping(choice).get("message"))
        texts += _texts(message.get("content"))
        calls = calls or bool(message.get("tool_calls") or message.get("function_call"))
    texts += _texts(answer.get("content"))
    for item in (*items(answer.get("content")), *items(answer.get("output"))):
        kind = str(mapping(item).get("type", ""))
        calls = calls or kind.endswith(("tool_use", "_call"))
        texts += _texts(mapping(item).get("content")) if kind == "message" else []
    return Spoken("\n".join(texts), calls, finish_reason)


def _texts(content: object) -> Iterator[str]:
    """Texts of a message's content: a text, or parts of which some are texts."""
    if isinstance(content, str):
        yield content
    for part in items(content):
        text = mapping(part).get("text")
        if isinstance(text, str) and mapping(part).get("type") in ("text", "output_text"):
            yield text


def asked_schema(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema that a request of any of the three APIs asks for, None where it asks for none."""
    for path in (("response_format", "json_schema"), ("text", "format"), ("output_config", "format"), ("output_format",)):
        found: object = fields
        for name in path:
            found = mapping(found).get(name)
        schema = mapping(found).get("schema")
        if isinstance(schema, Mapping):
            return schema
    return None


class Weak:
    """Judges answers under one policy. Safe to share between threads."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        names = {name.removeprefix(HAS) for one in policy.escalations for name in reads(one.condition) if name.startswith(HAS)}
        self.scanners = {name: Scanner([policy.texts[name]]) for name in names}

    def judge(self, escalation: Escalation, answer: Spoken, values: Values, schema: Mapping[str, Any] | None) -> bool:
        """Whether the answer is weak by the escalation's condition."""
        return bool(evaluate(escalation.condition, _Seen(self, answer, values, schema)))


class _Seen(Mapping[str, Value]):
    """What a condition can read, looked at when it is read."""

    def __init__(self, weak: Weak, answer: Spoken, values: Values, schema: Mapping[str, Any] | None) -> None:
        self.weak, self.answer, self.request, self.schema = weak, answer, values, schema

    def __getitem__(self, name: str) -> Value:
        answer = self.answer
        if name.startswith(HAS):
            return bool(self.weak.scanners[name.removeprefix(HAS)].mask(answer.text))
        match name.removeprefix(IS):
            case "empty" if name.startswith(IS):
                return not answer.calls and not answer.text.strip()
            case "truncated" if name.startswith(IS):
                return answer.finish_reason in CUT
            case "json" if name.startswith(IS):
                return _is_json(answer.text, self.schema)
        value: Value = getattr(self.request, self.weak.policy.signals[name].identifier)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.weak.policy.signals)

    def __len__(self) -> int:
        return len(self.weak.policy.signals)


def _is_json(text: str, schema: Mapping[str, Any] | None) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if schema is None:
        return True
    import jsonschema

    try:
        jsonschema.validate(found, schema)
    except (jsonschema.ValidationError, RecursionError):
        return False
    except jsonschema.SchemaError:  # what was asked for is no schema: any JSON will do
        return True
    return True
