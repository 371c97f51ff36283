"""A request from one API into another: cleaned, given to the library, finished, its settings written.

What is finished here are the upstream's rules that the library doesn't keep: one message for a turn, results right after their
calls, no empty texts for Anthropic, no cache that nobody asked for, identifiers of the upstream's alphabet and length.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from policyroute.proxy.convert import chat_request, library, loss_table, messages_request, responses_request
from policyroute.proxy.convert import settings as settings_of
from policyroute.proxy.convert.json_text import text_of
from policyroute.proxy.convert.library import ConversionError
from policyroute.proxy.convert.loss_table import Lost
from policyroute.proxy.convert.veil import Veil
from policyroute.proxy.wire.counts import items, mapping, text
from policyroute.signals.request import Api

Message = dict[str, Any]
_CLEANED = {"chat": chat_request.cleaned, "messages": messages_request.cleaned, "responses": responses_request.cleaned}
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")  # what an identifier of Anthropic's can't have
_LONGEST: dict[Api, int] = {"chat": 40, "responses": 64, "messages": 64}
"""Characters that a call's identifier may have."""


class Converted(NamedTuple):
    """A request for an upstream. `losses` are lines of `loss_table.losses`: what it doesn't say any more."""

    body: bytes
    losses: tuple[str, ...]


def converted(client: Api, upstream: Api, fields: dict[str, Any]) -> Converted:
    """The request in the upstream's API. Raises ConversionError where the answer would be to something else."""
    lost, veil = Lost(client, upstream), Veil()
    settings = settings_of.read(client, fields, lost)
    cleaned = _CLEANED[client](fields, upstream, veil, lost)
    found = library.request(client, upstream, cleaned)
    tools = [_tool(tool, veil) for tool in items(found.get("tools"))]
    names = settings_of.allowed(settings) if upstream == "messages" else None
    if names is not None:  # Anthropic has no word for it: the others are left out
        tools = [tool for tool in tools if tool["name"] in names]
    finished = {"chat": _chat, "messages": _messages, "responses": _responses}[upstream](found, veil, lost)
    written = settings_of.write(upstream, settings, [_name(tool) for tool in tools], lost)
    body = {"model": found["model"], **finished, **({"tools": tools} if tools else {}), **written}
    return Converted(text_of(body), lost.lines)


def _name(tool: Message) -> str:
    return text((mapping(tool.get("function")) or mapping(tool.get("custom")) or tool).get("name"))


def _tool(tool: Message, veil: Veil) -> Message:
    """A converted tool with its schema."""
    if isinstance(tool.get("function"), dict):
        return {**tool, "function": _tool(tool["function"], veil)}
    return {name: veil.shown(value) for name, value in tool.items()}


def _identifier(value: object, upstream: Api) -> str:
    """A call's identifier as the upstream allows it; the same wherever it stands."""
    found = text(value)
    if upstream == "messages":
        found = _FOREIGN.sub("_", found)
    if len(found) > _LONGEST[upstream]:
        return f"call_{hashlib.md5(found.encode('utf-8', 'replace'), usedforsecurity=False).hexdigest()}"
    return found


# -- Chat Completions


def _chat(found: Message, veil: Veil, lost: Lost) -> Message:
    """One message for each turn, prose as one text, and `system`, which all servers of this API know (`developer` few do)."""
    messages: list[Message] = []
    for message in items(found.get("messages")):
        message = _chat_message(message, veil, lost)
        role, last = message["role"], messages[-1] if messages else {}
        if role == "assistant" and last.get("role") == "assistant":
            messages[-1] = _joined(last, message)
        elif role == "system" and last.get("role") == "system":
            lost.note(loss_table.BORDERS)
            messages[-1] = {"role": role, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            messages.append(message)
    return {"messages": messages}


def _chat_message(message: Message, veil: Veil, lost: Lost) -> Message:
    role = "system" if message["role"] == "developer" else message["role"]
    content = message.get("content")
    if isinstance(content, list) and (role != "user" or [part.get("type") for part in content] == ["text"]):
        if len(content) > 1 and role != "assistant":
            lost.note(loss_table.BORDERS)
        between = {"system": "\n\n", "tool": "\n"}.get(role, "")  # many servers of this API take lists from users only
        content = between.join(text(part.get("text")) for part in content)
    found: Message = {"role": role, "content": content}
    if role == "tool":
        found = {**found, "tool_call_id": _identifier(message.get("tool_call_id"), "chat")}
    calls = [_chat_call(call, veil) for call in items(message.get("tool_calls"))]
    if calls:
        found = {**found, "content": content or None, "tool_calls": calls}
    return found


def _chat_call(call: Message, veil: Veil) -> Message:
    found = {**call, "id": _identifier(call.get("id"), "chat")}
    if isinstance(call.get("function"), dict):
        found["function"] = {**call["function"], "arguments": veil.shown_text(text(call["function"].get("arguments")))}
    return found


def _joined(first: Message, second: Message) -> Message:
    """Two messages of the assistant as the one turn that they are."""
    calls = [*items(first.get("tool_calls")), *items(second.get("tool_calls"))]
    said = text(first.get("content")) + text(second.get("content"))
    found: Message = {"role": "assistant", "content": said if said or not calls else None}
    return {**found, "tool_calls": calls} if calls else found


# -- Messages


def _messages(found: Message, veil: Veil, lost: Lost) -> Message:
    """No cache of the library's, no empty texts, results before all else of a message."""
    messages = []
    for message in items(found.get("messages")):
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else items(content)
        kept = [_block(block, veil) for block in blocks if not _blank(block)]
        if len(kept) < len(blocks):
            lost.note(loss_table.BLANK_TEXTS)
        if message["role"] == "user":
            kept.sort(key=lambda block: block["type"] != "tool_result")
        if kept:
            messages.append({"role": message["role"], "content": _plain(kept)})
    if not messages:
        raise ConversionError("a request without a user's message can't be converted")
    _without_space(messages[-1])
    system = [{"type": "text", "text": said} for said in _system(found.get("system")) if said.strip()]
    return {"messages": messages, **({"system": _plain(system)} if system else {})}


def _system(system: object) -> list[str]:
    return [system] if isinstance(system, str) else [text(block.get("text")) for block in items(system)]


def _plain(blocks: list[Message]) -> str | list[Message]:
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def _blank(block: Message) -> bool:
    return block.get("type") == "text" and not text(block.get("text")).strip()


def _block(block: Message, veil: Veil) -> Message:
    match block.get("type"):
        case "tool_use":
            return {**block, "id": _identifier(block.get("id"), "messages"), "input": veil.shown(block.get("input"))}
        case "tool_result":
            content = block.get("content")
            if isinstance(content, list):
                content = [part for part in content if not _blank(part)]
            return {**block, "tool_use_id": _identifier(block.get("tool_use_id"), "messages"), "content": content}
    return block


def _without_space(message: Message) -> None:
    """A prefilled answer must not end in white space."""
    if message["role"] != "assistant":
        return
    if isinstance(message["content"], str):
        message["content"] = message["content"].rstrip()
    elif message["content"][-1]["type"] == "text":
        message["content"][-1]["text"] = message["content"][-1]["text"].rstrip()


# -- Responses


def _responses(found: Message, veil: Veil, lost: Lost) -> Message:
    """Arguments shown again, and the `detail` that every image must have."""
    return {"input": [_item(item, veil) for item in items(found.get("input"))]}


def _item(item: Message, veil: Veil) -> Message:
    found = {name: _detailed(value) if isinstance(value, list) else value for name, value in item.items()}
    if "call_id" in item:
        found["call_id"] = _identifier(item["call_id"], "responses")
    if item["type"] == "function_call":
        found["arguments"] = veil.shown_text(text(item.get("arguments")))
    return found


def _detailed(parts: list[Message]) -> list[Message]:
    return [{"detail": "auto", **part} if part.get("type") == "input_image" else part for part in parts]
