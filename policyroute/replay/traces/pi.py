"""Sessions of the pi coding agent: one line per message. An assistant's line is an LLM call, and the lines before it are its prompt.

`usage.input` leaves out what was cached, so the total is input + cacheRead + cacheWrite. Cache writes are for five minutes
(their recorded price is 1.25 times the input's). The line is written when the answer is complete; `message.timestamp` is its
start: the difference is the latency. System prompt and tool definitions are not in the session.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policyroute.replay.traces.aider import money
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head, json_lines
from policyroute.replay.traces.times import milliseconds, parse

EXTRAS = {"call": "BIGINT"}
_APIS = {"anthropic-messages": "messages", "openai-responses": "responses", "openai-completions": "chat"}
_FINISH = {"toolUse": "tool_calls"}
_FAILED = ("aborted", "error")


def recognises(head: Head) -> bool:
    """Lines of `{type, timestamp, message}`, where assistants tell `usage.cacheRead`."""
    return head.kind == "jsonl" and head.has("type", "message.role", "message.usage.cacheRead")


def rows(head: Head, tally: Tally) -> Iterator[Row]:
    """The calls in order, each with the conversation before it."""
    seen: set[bytes] = set()
    session: str | None = None
    prompt: list[str] = []
    call = 0
    for _, line, entry in json_lines(head.path):
        message = entry.get("message")
        if entry.get("type") == "session":
            session, prompt = entry.get("id"), []
        elif entry.get("type") != "message" or not isinstance(message, dict):
            tally.add("other-events")
        elif line in seen:
            tally.add("duplicates")
        else:
            seen.add(line)
            answer = _chat(message)
            if message.get("role") == "assistant":
                yield _row(entry, message, session, prompt, answer, call)
                call += 1
            if answer is not None:
                prompt.append(dumps(answer))


def _row(entry: dict[str, Any], message: dict[str, Any], session: str | None, prompt: list[str], answer: object, call: int) -> Row:
    usage = message.get("usage") or {}
    parts = [usage.get(name) for name in ("input", "cacheRead", "cacheWrite")]
    start, reason = parse(message.get("timestamp")), message.get("stopReason")
    error = message.get("errorMessage")
    return {
        "ts": start,
        "conversation_id": session,
        "provider": message.get("provider"),
        "model": message.get("model"),
        "api": _APIS.get(message.get("api", ""), message.get("api")),
        "input_tokens": sum(part or 0 for part in parts) if usage else None,
        "cached_tokens": usage.get("cacheRead"),
        "cache_write_5m_tokens": usage.get("cacheWrite"),
        "output_tokens": usage.get("output"),
        "messages": f"[{','.join(prompt)}]",
        "output": dumps(answer) if answer is not None else None,
        "error_type": reason if reason in _FAILED else None,
        "finish_reason": _FINISH.get(reason or "", reason),
        "latency_ms": milliseconds(start, parse(entry.get("timestamp"))),
        "cost_usd": money((usage.get("cost") or {}).get("total")),
        "metadata": dumps({"error_message": error}) if error else None,
        "call": call,
    }


def _chat(message: dict[str, Any]) -> dict[str, Any] | None:
    """The message in OpenAI's chat shape; None for an answer that says nothing. A tool result keeps whether it failed, as
    `is_error`, which is Anthropic's word."""
    role, content = message.get("role"), message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    if role == "toolResult":
        told = {
            "role": "tool",
            "tool_call_id": message.get("toolCallId"),
            "name": message.get("toolName"),
            "content": _content(parts),
        }
        return {**told, "is_error": True} if message.get("isError") else told
    if role != "assistant":
        return {"role": role, "content": _content(parts)}
    text, calls = _content(parts), [_tool_call(part) for part in parts if part.get("type") == "toolCall"]
    if not text and not calls:
        return None
    answer: dict[str, Any] = {"role": "assistant", "content": text or None}
    return {**answer, "tool_calls": calls} if calls else answer


def _tool_call(part: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": part.get("id"),
        "type": "function",
        "function": {"name": part.get("name"), "arguments": dumps(part.get("arguments"))},
    }


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text as a string; a list of parts only where there is a picture."""
    texts = [part.get("text") or "" for part in parts if part.get("type") == "text"]
    if not any(part.get("type") == "image" for part in parts):
        return "\n".join(texts)
    return [_part(part) for part in parts if part.get("type") in ("text", "image")]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part.get("text") or ""}
    return {"type": "image_url", "image_url": {"url": f"data:{part.get('mimeType')};base64,{part.get('data')}"}}
