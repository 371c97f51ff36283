"""A Messages request, cleaned for the library: only what it knows, said in the one way that it converts right.

Results come first in a user's message: what stands before them there would part a call from its result, which OpenAI refuses.
Chat Completions has no images in results: they follow them, as the user's.
"""

from __future__ import annotations

from typing import Any

from policyroute.proxy.convert import files, loss_table
from policyroute.proxy.convert.library import ConversionError
from policyroute.proxy.convert.loss_table import Lost
from policyroute.proxy.convert.veil import Veil
from policyroute.proxy.wire.counts import items, mapping, text
from policyroute.signals.request import Api

Block = dict[str, Any]
_OWN = ("server_tool_use", "mcp_tool_use", "mcp_tool_result", "tool_reference")
_TOOL = ("name", "description", "input_schema", "strict", "type", "cache_control")


def cleaned(fields: dict[str, Any], upstream: Api, veil: Veil, lost: Lost) -> dict[str, Any]:
    """The conversation and the tools; the settings are `settings`' work."""
    cleaner = _Cleaner(upstream, veil, lost)
    if fields.get("cache_control"):
        lost.note(loss_table.CACHE)
    system = [{"type": "text", "text": each} for each in cleaner.system(fields.get("system")) if each]
    messages = [cleaner.message(mapping(each)) for each in items(fields.get("messages"))]
    found = {"model": text(fields.get("model")) or "model", "max_tokens": 1, "messages": messages}
    tools = cleaner.tools(items(fields.get("tools")))
    return {**found, "tools": tools, **({"system": system} if system else {})}


class _Cleaner:
    def __init__(self, upstream: Api, veil: Veil, lost: Lost) -> None:
        self._upstream, self._veil, self._lost = upstream, veil, lost

    def system(self, system: object) -> list[str]:
        return [system] if isinstance(system, str) else [self._text(mapping(block)) for block in items(system)]

    def message(self, message: dict[str, Any]) -> dict[str, Any]:
        role, content = text(message.get("role")), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise ConversionError("a message of a role that the other API hasn't can't be converted")
        if isinstance(content, str):
            return {"role": role, "content": content}
        blocks = [mapping(block) for block in items(content)]
        if role == "system":
            return {"role": role, "content": "\n\n".join(map(self._text, blocks))}
        return {"role": role, "content": self._assistant(blocks) if role == "assistant" else self._user(blocks)}

    def tools(self, tools: list[Any]) -> list[Block]:
        found = []
        for tool in map(mapping, tools):
            if not isinstance(tool.get("input_schema"), dict):
                self._lost.note(loss_table.OWN_TOOLS)
                continue
            self._seen(tool)
            if any(tool[name] not in (None, False, [], ["direct"]) for name in tool if name not in _TOOL):
                self._lost.note(loss_table.TOOL_DETAILS)
            found.append(self._tool(tool))
        return found

    def _tool(self, tool: Block) -> Block:
        strict = tool.get("strict") is True
        found: Block = {"name": text(tool.get("name")), "input_schema": self._veil.hide(tool["input_schema"])}
        if tool.get("description"):
            found["description"] = text(tool.get("description"))
        if strict or self._upstream == "responses":
            found["strict"] = strict  # Responses takes what isn't said as true
        return found

    def _assistant(self, blocks: list[Block]) -> list[Block]:
        found: list[Block] = []
        for block in blocks:
            match block.get("type"):
                case "text":
                    found.append({"type": "text", "text": self._text(block)})
                case "tool_use":
                    self._seen(block)
                    said = self._veil.hide(mapping(block.get("input")))
                    found.append({"type": "tool_use", "id": text(block.get("id")), "name": text(block.get("name")), "input": said})
                case "thinking" | "redacted_thinking":
                    self._lost.note(loss_table.REASONING)
                case kind:
                    self._own(kind)
        return found

    def _user(self, blocks: list[Block]) -> list[Block]:
        results = [block for block in blocks if block.get("type") == "tool_result"]
        others = [found for block in blocks if block.get("type") != "tool_result" for found in self._part(block)]
        moved: list[Block] = []
        found = [self._result(block, moved) for block in results]
        return [*found, *moved, *others]

    def _result(self, block: Block, moved: list[Block]) -> Block:
        self._seen(block)
        if block.get("is_error"):
            self._lost.note(loss_table.IS_ERROR)
        content = block.get("content")
        if not isinstance(content, str):
            parts = [found for part in items(content) for found in self._part(mapping(part))]
            content = [part for part in parts if part["type"] == "text" or self._upstream == "responses"]
            pictures = [part for part in parts if part not in content]
            if pictures:
                self._lost.note(loss_table.PICTURES_OF_RESULTS)
            moved.extend(pictures)
        return {"type": "tool_result", "tool_use_id": text(block.get("tool_use_id")), "content": content}

    def _part(self, block: Block) -> list[Block]:
        """A block of a user's message or of a result, as none, one or more that the library knows."""
        self._seen(block)
        match block.get("type"):
            case "text":
                return [{"type": "text", "text": self._text(block)}]
            case "image":
                return [{"type": "image", "source": self._source(mapping(block.get("source")))}]
            case "document":
                return self._document(block)
            case "search_result":
                said = [text(mapping(part).get("text")) for part in items(block.get("content"))]
                head = "\n".join(filter(None, (text(block.get("title")), text(block.get("source")))))
                return [{"type": "text", "text": "\n\n".join((head, *said))}]
            case kind:
                self._own(kind)
                return []

    def _source(self, source: Block) -> Block:
        if source.get("type") == "base64":
            url = files.picture(f"data:{text(source.get('media_type'))};base64,{text(source.get('data'))}")
            media, _, data = url.removeprefix("data:").partition(";base64,")
            return {"type": "base64", "media_type": media, "data": data}
        return {"type": "url", "url": files.picture(source.get("url"))}

    def _document(self, block: Block) -> list[Block]:
        if mapping(block.get("citations")).get("enabled"):
            self._lost.note(loss_table.CITED)
        source = mapping(block.get("source"))
        if source.get("type") == "content":
            content = source.get("content")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else items(content)
            return [found for part in parts for found in self._part(mapping(part))]
        if source.get("type") == "url" and self._upstream == "responses":
            return [{"type": "document", "source": {"type": "url", "url": text(source.get("url"))}}]
        found = files.of_block(block)
        if not found.pdf:
            return [{"type": "text", "text": files.words(found)}]
        data = f"data:{files.PDF};base64,{found.pdf}"  # the library copies it to where OpenAI wants a data URL
        kept = {"type": "base64", "media_type": files.PDF, "data": data}
        return [{"type": "document", "source": kept, "title": found.name or "document.pdf"}]

    def _text(self, block: Block) -> str:
        self._seen(block)
        return text(block.get("text"))

    def _seen(self, block: Block) -> None:
        if block.get("cache_control"):
            self._lost.note(loss_table.CACHE)
        if isinstance(block.get("citations"), list) and block["citations"]:
            self._lost.note(loss_table.CITED)

    def _own(self, kind: object) -> None:
        """What the provider's own tools left behind. What is none of that may be what the user says, so it is refused."""
        if kind in _OWN or str(kind).endswith("_tool_result"):
            self._lost.note(loss_table.OWN_CALLS)
            return
        raise ConversionError("a content block of an unknown type can't be converted")
