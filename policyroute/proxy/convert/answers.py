"""A whole answer from one API into another: cleaned, given to the library, finished.

Cleaning is lenient: whatever an upstream adds or leaves out, an answer that has content is converted, because it was paid for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policyroute.proxy.convert import library, told
from policyroute.proxy.convert.json_text import text_of
from policyroute.proxy.convert.library import ConversionError
from policyroute.proxy.convert.told import End
from policyroute.proxy.convert.veil import Veil, written
from policyroute.proxy.wire.body import exact
from policyroute.proxy.wire.counts import Counted, items, mapping, text
from policyroute.proxy.wire.surface import SURFACES
from policyroute.signals.request import Api

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """An upstream's answer as the library reads it, and what it doesn't carry over."""

    value: Block
    end: End
    refused: bool = False


def converted(client: Api, upstream: Api, body: bytes, fields: Mapping[str, Any]) -> bytes:
    """The answer in the client's API. Raises ConversionError for what is no answer."""
    veil, given = Veil(), mapping(exact(body))
    cleaned = {"chat": _of_chat, "messages": _of_messages, "responses": _of_responses}[upstream](given, client, veil)
    found = library.answer(client, upstream, cleaned.value)
    counted = SURFACES[upstream].usage(given)
    if client == "chat":
        return text_of(_to_chat(found, cleaned, counted, veil))
    if client == "messages":
        return text_of(_to_messages(found, cleaned, counted, veil))
    return text_of(_to_responses(found, cleaned, counted, veil, fields))


def created(answer: Block) -> int:
    """When an answer was made, in seconds since 1970; Anthropic doesn't say it."""
    found = answer.get("created") or answer.get("created_at")
    return int(found) if isinstance(found, (int, float)) and found > 0 else int(time.time())


# -- cleaning


def _of_chat(answer: Block, client: Api, veil: Veil) -> _Answer:
    choices = items(answer.get("choices"))
    if not choices:
        raise ConversionError("the upstream's answer has no choice")
    choice = mapping(choices[0])
    said = mapping(choice.get("message"))
    calls = [_call(mapping(call), place, client, veil) for place, call in enumerate(items(said.get("tool_calls")))]
    refusal = text(said.get("refusal"))
    message: Block = {"role": "assistant", "content": words(said.get("content")) or None, "refusal": refusal or None}
    end = told.end_of_chat(choice.get("finish_reason"), bool(calls))
    reason = told.finish_reason("stop" if end == "filter" else end)  # the library has no answer for what was filtered
    value = {
        "id": told.identifier("chat", answer.get("id")), "object": "chat.completion", "created": created(answer),
        "model": text(answer.get("model")),
        "choices": [{"index": 0, "message": {**message, **({"tool_calls": calls} if calls else {})}, "finish_reason": reason}],
    }  # fmt: skip
    return _Answer(value, end, bool(refusal))


def words(content: object) -> str:
    """A message's text: some servers give it in parts, of which the reasoning is one."""
    if isinstance(content, list):
        return "".join(text(part.get("text")) for part in map(mapping, content) if part.get("type") == "text")
    return text(content)


def _call(call: Block, place: int, client: Api, veil: Veil) -> Block:
    function = mapping(call.get("function"))
    arguments = function.get("arguments")
    said = arguments if isinstance(arguments, str) and arguments.strip() else written(mapping(arguments))
    named = {"name": text(function.get("name")), "arguments": veil.hide_text(said) if client == "messages" else said}
    return {"id": text(call.get("id")) or f"call_{place}", "type": "function", "function": named}


def _of_messages(answer: Block, client: Api, veil: Veil) -> _Answer:
    if not isinstance(answer.get("content"), list):
        raise ConversionError("the upstream's answer has no content")
    content = [found for block in map(mapping, answer["content"]) if (found := _block(block, client, veil))]
    if client == "chat":
        content = _one_text(content)
    end = told.end_of_messages(answer.get("stop_reason"))
    value = {
        "id": told.identifier("messages", answer.get("id")), "type": "message", "role": "assistant", "model": text(answer.get("model")),
        "content": content, "stop_reason": told.stop_reason("stop" if end == "filter" else end), "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }  # fmt: skip
    return _Answer(value, end)


def _block(block: Block, client: Api, veil: Veil) -> Block | None:
    match block.get("type"):
        case "text":
            return {"type": "text", "text": text(block.get("text"))}
        case "tool_use":
            said = veil.hide(mapping(block.get("input")))
            return {"type": "tool_use", "id": text(block.get("id")), "name": text(block.get("name")), "input": said}
        case "thinking" if client == "chat":
            return {"type": "thinking", "thinking": text(block.get("thinking")), "signature": ""}
    return None


def _one_text(content: list[Block]) -> list[Block]:
    """All text as one block: chat has one text, and nothing belongs between two blocks of a sentence."""
    said = "".join(block["text"] for block in content if block["type"] == "text")
    kept = [block for block in content if block["type"] == "thinking"]
    calls = [block for block in content if block["type"] == "tool_use"]
    return [*kept, *([{"type": "text", "text": said}] if said else []), *calls]


def _of_responses(answer: Block, client: Api, veil: Veil) -> _Answer:
    if answer.get("status") == "failed" or not isinstance(answer.get("output"), list):
        raise ConversionError("the upstream's response has failed")
    output = [found for item in map(mapping, answer["output"]) if (found := _item(item, client, veil))]
    calls = any(item["type"] == "function_call" for item in output)
    refused = any(part["type"] == "refusal" for item in output if item["type"] == "message" for part in item["content"])
    end = told.end_of_response(answer, calls)
    value = {
        "id": told.identifier("responses", answer.get("id")), "object": "response", "created_at": created(answer),
        "model": text(answer.get("model")), "status": "completed", "output": _one_message(output) if client == "chat" else output,
    }  # fmt: skip
    return _Answer(value, end, refused)


def _item(item: Block, client: Api, veil: Veil) -> Block | None:
    match item.get("type"):
        case "message":
            content = [found for part in map(mapping, items(item.get("content"))) if (found := _part(part))]
            return {"type": "message", "id": "msg_0", "role": "assistant", "status": "completed", "content": content}
        case "function_call":
            said = text(item.get("arguments")) or "{}"
            named = {"call_id": text(item.get("call_id")), "name": text(item.get("name"))}
            arguments = veil.hide_text(said) if client == "messages" else said
            return {"type": "function_call", "id": "fc_0", **named, "arguments": arguments, "status": "completed"}
        case "reasoning" if client == "chat":
            thoughts = reasoning(item)
            return (
                {"type": "reasoning", "id": "rs_0", "summary": [{"type": "summary_text", "text": thoughts}]} if thoughts else None
            )
    return None


def reasoning(item: Block) -> str:
    """The words of a reasoning item: its summary, or where there is none its text."""
    parts = items(item.get("summary")) or items(item.get("content"))
    return "\n\n".join(text(mapping(part).get("text")) for part in parts)


def _part(part: Block) -> Block | None:
    match part.get("type"):
        case "output_text":
            return {"type": "output_text", "text": text(part.get("text")), "annotations": [], "logprobs": []}
        case "refusal":
            return {"type": "refusal", "refusal": text(part.get("refusal"))}
    return None


def _one_message(output: list[Block]) -> list[Block]:
    """All text as one part of one message, and all refusals as another: chat has one of each."""
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    said = "".join(part["text"] for part in parts if part["type"] == "output_text")
    refused = "".join(part["refusal"] for part in parts if part["type"] == "refusal")
    thoughts = [item for item in output if item["type"] == "reasoning"]
    calls = [item for item in output if item["type"] == "function_call"]
    content = [
        *([_part({"type": "output_text", "text": said})] if said else []),
        *([{"type": "refusal", "refusal": refused}] if refused else []),
    ]
    message = (
        [{"type": "message", "id": "msg_0", "role": "assistant", "status": "completed", "content": content}] if content else []
    )
    return [*thoughts, *message, *calls]


# -- finishing


def _to_chat(found: Block, answer: _Answer, counted: Counted | None, veil: Veil) -> Block:
    said = mapping(mapping(found["choices"][0]).get("message"))
    calls = [_shown(call, veil) for call in items(said.get("tool_calls"))]
    content = said.get("content")
    message: Block = {
        "role": "assistant",
        "content": content if content or calls or said.get("refusal") else "",
        "refusal": said.get("refusal"),
    }
    message |= {"annotations": [], **({"tool_calls": calls} if calls else {})}
    if said.get("reasoning_content"):
        message["reasoning_content"] = said["reasoning_content"]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": told.finish_reason(answer.end)}
    return {
        "id": told.identifier("chat", found.get("id")), "object": "chat.completion", "created": created(found),
        "model": found.get("model"), "choices": [choice], "usage": told.usage("chat", counted),
    }  # fmt: skip


def _shown(call: Block, veil: Veil) -> Block:
    function = mapping(call.get("function"))
    return {**call, "function": {**function, "arguments": veil.shown_text(text(function.get("arguments")))}}


def _to_messages(found: Block, answer: _Answer, counted: Counted | None, veil: Veil) -> Block:
    content = [
        {**told.block(block), "input": veil.shown(block.get("input"))} if block.get("type") == "tool_use" else told.block(block)
        for block in items(found.get("content")) if block.get("type") != "text" or block.get("text")
    ]  # fmt: skip
    return {
        "id": told.identifier("messages", found.get("id")), "type": "message", "role": "assistant", "model": found.get("model"),
        "content": content, "stop_reason": told.stop_reason(answer.end, answer.refused), "stop_sequence": None,
        "stop_details": None, "container": None, "usage": told.usage("messages", counted),
    }  # fmt: skip


def _to_responses(found: Block, answer: _Answer, counted: Counted | None, veil: Veil, fields: Mapping[str, Any]) -> Block:
    declared = told.namespaces(fields)
    output = [_written(told.call_named(item, declared), veil) for item in items(found.get("output"))]
    state = told.response_end(answer.end)
    named = {"id": told.identifier("responses", found.get("id")), "model": found.get("model"), "output": output}
    return told.response_object(fields, created(found), {**named, **state, "usage": told.usage("responses", counted)})


def _written(item: Block, veil: Veil) -> Block:
    return {**item, "arguments": veil.shown_text(text(item.get("arguments")))} if item.get("type") == "function_call" else item
