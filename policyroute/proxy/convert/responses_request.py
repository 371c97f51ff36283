"""A Responses request, cleaned for the library: only what it knows, said in the one way that it converts right.

Chat Completions has no images in results: they follow the results of the same turn, as the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policyroute.proxy.convert import files, loss_table
from policyroute.proxy.convert.library import ConversionError
from policyroute.proxy.convert.loss_table import Lost
from policyroute.proxy.convert.veil import Veil, written
from policyroute.proxy.wire.counts import items, mapping, text
from policyroute.signals.request import Api

Item = dict[str, Any]
SEPARATOR = "--"
"""Between a namespace and a name, where the library makes one name of them."""

_ELSEWHERE = {
    "previous_response_id": "an earlier response that the provider keeps",
    "conversation": "a conversation that the provider keeps",
    "prompt": "a prompt that the provider keeps",
    "background": "an answer in the background",
}


def cleaned(fields: dict[str, Any], upstream: Api, veil: Veil, lost: Lost) -> dict[str, Any]:
    """The conversation and the tools; the settings are `settings`' work."""
    for name, what in _ELSEWHERE.items():
        if fields.get(name):
            raise ConversionError(f"{what} can't be had from a model that speaks another API")
    cleaner = _Cleaner(upstream, veil, lost)
    found = list(cleaner.items(fields.get("input")))
    cleaner.places(found)
    if fields.get("instructions"):
        found.insert(0, {"type": "message", "role": "system", "content": text(fields.get("instructions"))})
    return {"model": text(fields.get("model")) or "model", "input": found, "tools": cleaner.tools(items(fields.get("tools")))}


class _Cleaner:
    def __init__(self, upstream: Api, veil: Veil, lost: Lost) -> None:
        self._upstream, self._veil, self._lost = upstream, veil, lost
        self._moved: list[dict[str, Any]] = []  # images of the results since the last message

    def items(self, given: object) -> Iterator[Item]:
        if isinstance(given, str):
            yield {"type": "message", "role": "user", "content": given}
            return
        for item in map(mapping, items(given)):
            found = self._item(item)
            if found is None:
                continue
            if found["type"] != "function_call_output":
                yield from self._pictures()
            yield found
        yield from self._pictures()

    def places(self, found: list[Item]) -> None:
        """Note system messages inside the conversation."""
        roles = [text(item.get("role")) for item in found]
        inner = next((place for place, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
        if self._upstream == "messages" and any(role in ("system", "developer") for role in roles[inner:]):
            self._lost.note(loss_table.SYSTEM_PLACE)

    def tools(self, tools: list[Any]) -> list[Item]:
        found = []
        for tool in map(mapping, tools):
            if tool.get("type") == "namespace":
                inner = [self._function(each) for each in map(mapping, items(tool.get("tools"))) if self._is_function(each)]
                named = {name: tool[name] for name in ("name", "description") if tool.get(name)}
                found += [{"type": "namespace", **named, "tools": inner}] if inner else []
            elif self._is_function(tool):
                found.append(self._function(tool))
        return found

    def _is_function(self, tool: Item) -> bool:
        if tool.get("type") == "function":
            return True
        self._lost.note(loss_table.CUSTOM_TOOLS if tool.get("type") == "custom" else loss_table.OWN_TOOLS)
        return False

    def _function(self, tool: Item) -> Item:
        schema = mapping(tool.get("parameters")) or {"type": "object", "properties": {}}
        found = {"type": "function", "name": text(tool.get("name")), "parameters": self._veil.hide(schema)}
        if tool.get("description"):
            found["description"] = text(tool.get("description"))
        return {**found, "strict": True} if tool.get("strict") is True else found

    def _item(self, item: Item) -> Item | None:
        match item.get("type", "message"):
            case "message":
                return self._message(item)
            case "function_call":
                return self._call(item, text(item.get("arguments")))
            case "custom_tool_call":
                return self._call(item, written({"input": text(item.get("input"))}))
            case "function_call_output" | "custom_tool_call_output":
                output = self._output(item.get("output"))
                return {"type": "function_call_output", "call_id": text(item.get("call_id")), "output": output}
            case "reasoning":
                self._lost.note(loss_table.REASONING)
                return None
            case kind if str(kind).endswith(("_call", "_call_output")) or str(kind).startswith("mcp_"):
                self._lost.note(loss_table.OWN_CALLS)
                return None
        raise ConversionError("an input item that the provider keeps, or of an unknown type, can't be converted")

    def _message(self, item: Item) -> Item:
        role, content = text(item.get("role")), item.get("content")
        if role not in ("user", "assistant", "system", "developer"):
            raise ConversionError("a message of a role that the other API hasn't can't be converted")
        if not isinstance(content, list):
            said: str | list[dict[str, Any]] = text(content)
        elif role == "assistant":
            said = "".join(text(part.get("text")) or text(part.get("refusal")) for part in map(mapping, content))
        else:
            said = [self._part(mapping(part)) for part in content]
        return {"type": "message", "role": role, "content": said}

    def _call(self, item: Item, arguments: str) -> Item:
        said = self._veil.hide_text(arguments) if self._upstream == "messages" else arguments
        found = {"type": "function_call", "call_id": text(item.get("call_id")), "name": text(item.get("name")), "arguments": said}
        return {**found, "namespace": item["namespace"]} if item.get("namespace") else found

    def _output(self, output: object) -> str | list[dict[str, Any]]:
        if not isinstance(output, list):
            return output if isinstance(output, str) else written(output)
        parts = [self._part(mapping(part)) for part in output]
        if self._upstream == "messages":
            return parts
        pictures = [part for part in parts if part["type"] != "input_text"]
        if pictures:
            self._lost.note(loss_table.PICTURES_OF_RESULTS)
        self._moved += pictures
        return [part for part in parts if part["type"] == "input_text"] or ""

    def _pictures(self) -> Iterator[Item]:
        moved, self._moved = self._moved, []
        if moved:
            yield {"type": "message", "role": "user", "content": moved}

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                return {"type": "input_text", "text": text(part.get("text"))}
            case "input_image":
                return self._picture(part)
            case "input_file":
                return self._file(part)
            case "refusal":
                return {"type": "input_text", "text": text(part.get("refusal"))}
        raise ConversionError("a content part of an unknown type, or audio, can't be converted")

    def _picture(self, part: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "input_image", "image_url": files.picture(part.get("image_url"))}
        detail = part.get("detail")
        if detail not in (None, "auto"):
            if self._upstream == "chat":
                found["detail"] = detail if detail in ("low", "high") else "high"
            self._lost.note(loss_table.ORIGINAL if detail == "original" and self._upstream == "chat" else loss_table.DETAIL)
        return found

    def _file(self, part: dict[str, Any]) -> dict[str, Any]:
        if part.get("file_url") and self._upstream == "messages":
            return {"type": "input_file", "file_url": text(part.get("file_url"))}
        found = files.of_data(part.get("file_data"), part.get("filename"))
        if found.text:
            return {"type": "input_text", "text": files.words(found)}
        data = found.pdf if self._upstream == "messages" else f"data:{files.PDF};base64,{found.pdf}"
        return {"type": "input_file", "file_data": data, "filename": found.name or "document.pdf"}
