"""A Chat Completions request, cleaned for the library: only what it knows, said in the one way that it converts right."""

from __future__ import annotations

from typing import Any

from policyroute.proxy.convert import files, loss_table
from policyroute.proxy.convert.library import ConversionError
from policyroute.proxy.convert.loss_table import Lost
from policyroute.proxy.convert.veil import Veil, written
from policyroute.proxy.wire.counts import items, mapping, text
from policyroute.signals.request import Api


def cleaned(fields: dict[str, Any], upstream: Api, veil: Veil, lost: Lost) -> dict[str, Any]:
    """The conversation and the tools; the settings are `settings`' work."""
    _refuse(fields)
    cleaner = _Cleaner(upstream, veil, lost)
    messages = [cleaner.message(mapping(each)) for each in items(fields.get("messages"))]
    cleaner.places(messages)
    return {"model": text(fields.get("model")) or "model", "messages": messages, "tools": cleaner.tools(items(fields.get("tools")))}


def _refuse(fields: dict[str, Any]) -> None:
    choices = fields.get("n")
    if isinstance(choices, int) and choices > 1:
        raise ConversionError("several choices (`n`) can't be asked of a model that speaks another API")
    if "audio" in items(fields.get("modalities")) or fields.get("audio"):
        raise ConversionError("an answer in audio can't be asked of a model that speaks another API")
    if fields.get("functions") or fields.get("function_call"):
        raise ConversionError("`functions` and `function_call` can't be converted: `tools` and `tool_choice` can")


class _Cleaner:
    def __init__(self, upstream: Api, veil: Veil, lost: Lost) -> None:
        self._upstream, self._veil, self._lost = upstream, veil, lost

    def message(self, message: dict[str, Any]) -> dict[str, Any]:
        role = text(message.get("role"))
        if message.get("name") and role != "function":
            self._lost.note(loss_table.NAMES)
        match role:
            case "system" | "developer" | "user":
                return {"role": role, "content": self._content(message.get("content"))}
            case "tool":
                found = {"role": role, "tool_call_id": text(message.get("tool_call_id"))}
                return {**found, "content": self._content(message.get("content"))}
            case "assistant":
                return self._assistant(message)
        raise ConversionError("a message of a role that the other API hasn't can't be converted")

    def places(self, messages: list[dict[str, Any]]) -> None:
        """Note system messages inside the conversation."""
        roles = [message["role"] for message in messages]
        inner = next((place for place, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
        if self._upstream == "messages" and any(role in ("system", "developer") for role in roles[inner:]):
            self._lost.note(loss_table.SYSTEM_PLACE)

    def tools(self, tools: list[Any]) -> list[dict[str, Any]]:
        found = []
        for tool in map(mapping, tools):
            if tool.get("type") == "function":
                found.append({"type": "function", "function": self._function(mapping(tool.get("function")))})
            else:
                self._lost.note(loss_table.CUSTOM_TOOLS if tool.get("type") == "custom" else loss_table.OWN_TOOLS)
        return found

    def _function(self, function: dict[str, Any]) -> dict[str, Any]:
        schema = mapping(function.get("parameters")) or {"type": "object", "properties": {}}
        strict = function.get("strict")
        found: dict[str, Any] = {"name": text(function.get("name")), "parameters": self._veil.hide(schema)}
        if function.get("description"):
            found["description"] = text(function.get("description"))
        if isinstance(strict, bool) and (strict or self._upstream == "responses"):
            found["strict"] = strict
        elif self._upstream == "responses":
            found["strict"] = False  # what leaving it out means here, and not there
        return found

    def _assistant(self, message: dict[str, Any]) -> dict[str, Any]:
        if message.get("function_call") or message.get("audio"):
            raise ConversionError("a message with a `function_call` or with audio can't be converted")
        if message.get("reasoning_content") or message.get("reasoning"):
            self._lost.note(loss_table.REASONING)
        content = self._said(message.get("content")) or text(message.get("refusal"))
        calls = [self._call(mapping(call)) for call in items(message.get("tool_calls"))]
        found: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
        return {**found, "tool_calls": calls} if calls else found

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        identifier, custom = text(call.get("id")), mapping(call.get("custom"))
        if custom and self._upstream == "responses":
            return {
                "id": identifier,
                "type": "custom",
                "custom": {"name": text(custom.get("name")), "input": text(custom.get("input"))},
            }
        function = mapping(call.get("function")) or {
            "name": custom.get("name"),
            "arguments": written({"input": custom.get("input")}),
        }
        arguments = function.get("arguments")
        said = arguments if isinstance(arguments, str) else written(arguments or {})
        if self._upstream == "messages":
            said = self._veil.hide_text(said)
        return {"id": identifier, "type": "function", "function": {"name": text(function.get("name")), "arguments": said}}

    def _said(self, content: object) -> str:
        """An assistant's text. Its parts are one text: no API puts anything between them."""
        if isinstance(content, str):
            return content
        parts = [mapping(part) for part in items(content)]
        return "".join(text(part.get("text")) or text(part.get("refusal")) for part in parts)

    def _content(self, content: object) -> str | list[dict[str, Any]]:
        if not isinstance(content, list):
            return text(content)
        return [self._part(mapping(part)) for part in content]

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        match part.get("type"):
            case "text":
                return {"type": "text", "text": text(part.get("text"))}
            case "image_url":
                return self._picture(part.get("image_url"))
            case "file":
                return self._file(mapping(part.get("file")))
            case "refusal":
                return {"type": "text", "text": text(part.get("refusal"))}
            case "input_audio":
                raise ConversionError("audio can't be sent to a model that speaks another API")
        raise ConversionError("a content part of an unknown type can't be converted")

    def _picture(self, image: object) -> dict[str, Any]:
        found = image if isinstance(image, dict) else {"url": image}
        detail = found.get("detail")
        url: dict[str, Any] = {"url": files.picture(found.get("url"))}
        if detail not in (None, "auto"):
            if self._upstream == "responses":
                url["detail"] = detail if detail in ("low", "high") else "high"
            self._lost.note(loss_table.ORIGINAL if detail == "original" and self._upstream == "responses" else loss_table.DETAIL)
        return {"type": "image_url", "image_url": url}

    def _file(self, file: dict[str, Any]) -> dict[str, Any]:
        found = files.of_data(file.get("file_data"), file.get("filename"))
        if found.text:
            return {"type": "text", "text": files.words(found)}
        data = found.pdf if self._upstream == "messages" else f"data:{files.PDF};base64,{found.pdf}"
        return {"type": "file", "file": {"file_data": data, "filename": found.name or "document.pdf"}}
