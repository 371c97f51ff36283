"""Messages and tools of other shapes in the shape of OpenAI's chat API, which signals are extracted from.

Total: what has no place in a chat keeps its JSON as a content part, so that its tokens are counted; hidden reasoning, which no
later prompt carries as text, is left out. Anthropic's messages are read as they are, with `system` before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.values import listed, mapping, text, unpacked

Message = dict[str, Any]
_TEXTS = ("text", "input_text", "output_text", "summary_text")
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "mcp_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


def content(parts: Sequence[object]) -> str | list[Any]:
    """Texts as one string; a list of parts only where there is something else."""
    if all(isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text") for part in parts):
        return "\n".join(part if isinstance(part, str) else str(part.get("text") or "") for part in parts)  # type: ignore[attr-defined]
    return list(parts)


def call(name: object, arguments: object, call_id: object = None) -> Message:
    """A tool call."""
    spelled = arguments if isinstance(arguments, str) else "" if arguments is None else dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": spelled}}


def result(call_id: object, output: object, name: object = None, failed: bool = False) -> Message:
    """A tool's result; `is_error` is Anthropic's word for one that failed."""
    said = output if isinstance(output, str | list) else "" if output is None else dumps(output)
    found: Message = {"role": "tool", "tool_call_id": call_id, "content": said}
    return {**found, **({"name": name} if name else {}), **({"is_error": True} if failed else {})}


def assistant(said: str | list[Any], calls: Sequence[Message] = ()) -> Message:
    """A model's answer."""
    return {"role": "assistant", "content": said or None, **({"tool_calls": list(calls)} if calls else {})}


def picture(url: object) -> Message:
    """A content part that is a picture."""
    return {"type": "image_url", "image_url": {"url": url}}


def tool(given: object) -> Any:
    """A tool definition as a chat takes it; a provider's own tool, which has no parameters, stays as it is."""
    found = unpacked(given)
    if not isinstance(found, dict) or "function" in found:
        return found
    spec = mapping(found.get("toolSpec")) or found
    schema = next((spec[key] for key in ("parameters", "input_schema", "inputSchema") if isinstance(spec.get(key), dict)), None)
    if not text(spec.get("name")) or (schema is None and found.get("type") not in (None, "function")):
        return found
    function = {"name": spec["name"], "description": spec.get("description"), "parameters": (schema or {}).get("json", schema)}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def tools(given: object) -> str | None:
    """A list of tools as JSON; None where there is none."""
    found = unpacked(given)
    return dumps([tool(each) for each in found]) if isinstance(found, list) else None


# -- OpenAI Responses: items -------------------------------------------------------------------------------------------


def of_items(items: object) -> list[Message]:
    """The items of a Responses input (or a plain text) as messages; neighbouring items of a model are one answer."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    found: list[Message] = []
    for item in listed(items):
        message = of_item(item)
        if message is None:
            continue
        if found and message["role"] == "assistant" == found[-1]["role"]:
            found[-1] = joined((found[-1], message))
        else:
            found.append(message)
    return found


def of_item(item: object) -> Message | None:
    """One item of a Responses input or output; None for hidden reasoning."""
    if not isinstance(item, dict):
        return {"role": "user", "content": text(item) or ""}
    kind = item.get("type")
    if kind == "reasoning":
        return None
    if kind in _CALLS:
        arguments = next((item[key] for key in ("arguments", "input", "action") if key in item), None)
        return assistant("", [call(item.get("name") or kind.removesuffix("_call"), arguments, item.get("call_id"))])
    if kind in _OUTPUTS:
        output = unpacked(item.get("output"))
        parts = output.get("content", output) if isinstance(output, dict) and "content" in output else item.get("output")
        failed = isinstance(output, dict) and output.get("success") is False
        return result(
            item.get("call_id"), content([_part(part) for part in parts]) if isinstance(parts, list) else parts, None, failed
        )
    if "role" not in item:
        return {"role": "assistant", "content": [item]}
    said = item.get("content")
    return {"role": item["role"], "content": content([_part(part) for part in said]) if isinstance(said, list) else said or ""}


def _part(part: object) -> object:
    if not isinstance(part, dict):
        return part
    if part.get("type") in _TEXTS:
        return {"type": "text", "text": part.get("text") or ""}
    if part.get("type") == "input_image":
        return picture(part.get("image_url"))
    return {"type": "text", "text": part["refusal"]} if part.get("type") == "refusal" and "refusal" in part else part


def joined(answers: Iterable[Message]) -> Message:
    """Answers that one call of a model made, as one."""
    said: list[Any] = []
    calls: list[Message] = []
    for each in answers:
        own = each.get("content")
        said += own if isinstance(own, list) else [own] if own else []
        calls += each.get("tool_calls", [])
    return assistant(content(said), calls)


# -- OpenTelemetry: parts --------------------------------------------------------------------------------------------


def of_parts(messages: object) -> list[Message]:
    """Messages of OpenTelemetry's GenAI conventions: `{role, parts}`; those that are a chat's already stay so."""
    found: list[Message] = []
    for message in listed(messages):
        if not isinstance(message, dict) or not isinstance(message.get("parts"), list):
            found.append(message if isinstance(message, dict) else {"role": "user", "content": text(message) or ""})
            continue
        found += _spoken(str(message.get("role") or "user"), [part for part in message["parts"] if isinstance(part, dict)])
    return found


def _spoken(role: str, parts: list[dict[str, Any]]) -> list[Message]:
    results = [
        result(part.get("id"), part.get("result", part.get("response")), part.get("name"))
        for part in parts
        if part.get("type") == "tool_call_response"
    ]
    calls = [call(part.get("name"), part.get("arguments"), part.get("id")) for part in parts if part.get("type") == "tool_call"]
    own = [part for part in parts if part.get("type") not in ("tool_call", "tool_call_response", "reasoning", "thinking")]
    said = content([of_part(part) for part in own])
    if role in ("assistant", "model"):
        return [assistant(said, calls), *results]
    return [*results, *([{"role": role, "content": said}] if said or not results else [])]


def of_part(part: dict[str, Any]) -> dict[str, Any]:
    """One part that is no tool's."""
    if part.get("type") == "text":
        return {"type": "text", "text": text(part.get("content")) or text(part.get("text")) or ""}
    media = f"{part.get('modality') or ''} {part.get('mime_type') or ''}"
    if "image" in media and part.get("type") in ("blob", "uri"):
        return picture(part.get("uri") or f"data:{part.get('mime_type') or 'image/png'};base64,{part.get('content')}")
    return part


def instructions(given: object) -> list[Message]:
    """System instructions (a text, or a list of texts or parts) as a message; none where there are none."""
    found = unpacked(given)
    if isinstance(found, str):
        return [{"role": "system", "content": found}] if found else []
    parts = [of_part(part) if isinstance(part, dict) else part for part in found] if isinstance(found, list) else []
    return [{"role": "system", "content": content(parts)}] if parts else []


# -- Bedrock Converse: blocks ----------------------------------------------------------------------------------------


def of_blocks(messages: object) -> list[Message]:
    """Messages of Bedrock's Converse API: `{role, content: [{text} | {toolUse} | {toolResult} | {image}]}`."""
    found: list[Message] = []
    for message in listed(messages):
        blocks = [block for block in listed(mapping(message).get("content")) if isinstance(block, dict)]
        results = [_block_result(block["toolResult"]) for block in blocks if isinstance(block.get("toolResult"), dict)]
        uses = [block["toolUse"] for block in blocks if isinstance(block.get("toolUse"), dict)]
        own = [block for block in blocks if not {"toolResult", "toolUse", "reasoningContent", "cachePoint"} & block.keys()]
        said = content([_block(block) for block in own])
        if mapping(message).get("role") == "assistant":
            calls = [call(use.get("name"), use.get("input"), use.get("toolUseId")) for use in uses]
            found.append(assistant(said, calls))
        else:
            found += [*results, *([{"role": "user", "content": said}] if said or not results else [])]
    return found


def _block(block: dict[str, Any]) -> dict[str, Any]:
    if isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    if isinstance(block.get("image"), dict):
        source = mapping(block["image"].get("source"))
        return picture(f"data:image/{block['image'].get('format')};base64,{source.get('bytes', '')}")
    return block


def _block_result(found: dict[str, Any]) -> Message:
    parts = [
        {"type": "text", "text": dumps(part["json"])} if "json" in part else _block(part)
        for part in listed(found.get("content"))
        if isinstance(part, dict)
    ]
    return result(found.get("toolUseId"), content(parts), None, found.get("status") == "error")
