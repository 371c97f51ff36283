"""What was said, for journals that keep it: a body's messages, tools and format, and the answer, as the canonical columns hold them.

Every string of content goes through the redaction hook. Where the hook fails, nothing of the request's content is written, and
`withheld` says why.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

Redact = Callable[[str], str]
Body = dict[str, Any]

# Keys whose strings are structure, not content: a replay reads shapes by them.
STRUCTURE = frozenset(
    {
        "type",
        "role",
        "id",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "name",
        "finish_reason",
        "stop_reason",
        "object",
        "detail",
        "media_type",
    }
)


def content_of(prompt: bytes | None, answer: bytes | None, redact: Redact | None) -> dict[str, object]:
    """The columns `messages`, `tools`, `response_format` and `output`, as JSON text; `withheld` where they could not be redacted."""
    found = _asked(prompt) | ({"output": said} if (said := _said(answer)) is not None else {})
    written: dict[str, object] = {}
    # The hook is the operator's own code and may raise anything; what it didn't see must not be written.
    with contextlib.suppress(Exception):
        for name, value in found.items():
            written[name] = _text(_redacted(value, redact) if redact else value)
        return written
    return {"withheld": "the redaction hook failed"}


def _asked(prompt: bytes | None) -> Body:
    body = _parsed(prompt)
    if not isinstance(body, dict):
        return {}
    found: Body = {}
    messages = next((body[key] for key in ("messages", "input", "prompt") if body.get(key) is not None), None)
    if messages is not None:
        listed = messages if isinstance(messages, list) else [messages]
        plain = [{"role": "user", "content": item} if isinstance(item, str) else item for item in listed]
        systems = [{"role": "system", "content": body[key]} for key in ("system", "instructions") if body.get(key)]
        found["messages"] = [*systems, *plain]
    tools = [tool for key in ("tools", "functions") for tool in _list(body.get(key))]
    found["tools"] = tools
    for value in (
        body.get("response_format"),
        body.get("output_format"),
        _inside(body.get("text")),
        _inside(body.get("output_config")),
    ):
        if value is not None:
            found["response_format"] = value
            break
    return found


def _said(answer: bytes | None) -> object:
    """The answer as a message or a list of messages; its text where it is no JSON object of a known shape."""
    if not answer:
        return None
    body = _parsed(answer)
    if not isinstance(body, dict):
        return answer.decode("utf-8", "replace")
    if isinstance(body.get("choices"), list) and body["choices"] and isinstance(body["choices"][0], dict):
        return body["choices"][0].get("message", body["choices"][0])
    if isinstance(body.get("output"), list):
        return body["output"]
    return {"role": "assistant", "content": body["content"]} if "content" in body else body


def _parsed(data: bytes | None) -> object:
    try:
        return json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None


def _redacted(value: Any, redact: Redact, key: str = "") -> Any:
    if isinstance(value, str):
        return value if key in STRUCTURE else redact(value)
    if isinstance(value, list):
        return [_redacted(item, redact, key) for item in value]
    if isinstance(value, dict):
        return {name: _redacted(inner, redact, name) for name, inner in value.items()}
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _inside(value: object) -> object:
    return value.get("format") if isinstance(value, dict) else None
