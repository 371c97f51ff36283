"""Conversations and answers in no API's words, their forms in each API, and the way back: what the tests of conversions compare."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

APIS = ("chat", "responses", "messages")
PAIRS = [(client, upstream) for client in APIS for upstream in APIS if client != upstream]
PNG = "data:image/png;base64,aGVsbG8="

# A conversation is a list of steps: ("system", text) first, then ("user", parts), ("assistant", text), ("call", id, name, arguments)
# and ("result", id, text). A part is ("text", text) or ("image", url).
Step = tuple[Any, ...]


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- requests in each API ----------------------------------------------------------------------------------------------------


def request(api: str, steps: list[Step], tools: list[tuple[str, str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """The conversation as a request to `api`; `more` are fields of that API."""
    made = {"chat": _chat, "messages": _messages, "responses": _responses}[api](steps)
    defined = [_tool(api, *tool) for tool in tools or []]
    return {"model": "auto", **made, **({"tools": defined} if defined else {}), **more}


def _tool(api: str, name: str, description: str, schema: Any) -> dict[str, Any]:
    if api == "messages":
        return {"name": name, "description": description, "input_schema": schema}
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function} if api == "chat" else {"type": "function", **function, "strict": False}


def _chat(steps: list[Step]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for kind, *rest in steps:
        if kind == "call":
            identifier, name, arguments = rest
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            function = {"name": name, "arguments": compact(arguments)}
            messages[-1].setdefault("tool_calls", []).append({"id": identifier, "type": "function", "function": function})
        elif kind == "result":
            messages.append({"role": "tool", "tool_call_id": rest[0], "content": rest[1]})
        elif kind == "user":
            messages.append({"role": "user", "content": [_chat_part(*part) for part in rest[0]]})
        else:
            messages.append({"role": kind, "content": rest[0]})
    return {"messages": messages}


def _chat_part(kind: str, value: str) -> dict[str, Any]:
    return {"type": "text", "text": value} if kind == "text" else {"type": "image_url", "image_url": {"url": value}}


def _messages(steps: list[Step]) -> dict[str, Any]:
    system, messages = [], []
    for kind, *rest in steps:
        if kind == "system":
            system.append({"type": "text", "text": rest[0]})
            continue
        role = "user" if kind in ("user", "result") else "assistant"
        if not messages or messages[-1]["role"] != role:
            messages.append({"role": role, "content": []})
        messages[-1]["content"] += _blocks(kind, rest)
    return {"max_tokens": 1000, "messages": messages, **({"system": system} if system else {})}


def _blocks(kind: str, rest: list[Any]) -> list[dict[str, Any]]:
    match kind:
        case "user":
            return [{"type": "text", "text": value} if is_ == "text" else _image(value) for is_, value in rest[0]]
        case "assistant":
            return [{"type": "text", "text": rest[0]}]
        case "call":
            return [{"type": "tool_use", "id": rest[0], "name": rest[1], "input": rest[2]}]
    return [{"type": "tool_result", "tool_use_id": rest[0], "content": rest[1]}]


def _image(url: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}


def _responses(steps: list[Step]) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    for kind, *rest in steps:
        match kind:
            case "call":
                named = {"call_id": rest[0], "name": rest[1], "arguments": compact(rest[2])}
                items.append({"type": "function_call", "id": f"fc_{rest[0]}", "status": "completed", **named})
            case "result":
                items.append({"type": "function_call_output", "call_id": rest[0], "output": rest[1]})
            case "assistant":
                content = [{"type": "output_text", "text": rest[0], "annotations": []}]
                items.append({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": content})
            case "user":
                items.append({"role": "user", "content": [_input(*part) for part in rest[0]]})
            case _:
                items.append({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": rest[0]}]})
    return {"input": items}


def _input(kind: str, value: str) -> dict[str, Any]:
    return {"type": "input_text", "text": value} if kind == "text" else {"type": "input_image", "image_url": value}


# -- and back ----------------------------------------------------------------------------------------------------------------


def steps_of(api: str, body: dict[str, Any]) -> list[Step]:
    """The conversation of a request to `api`, adjacent texts of one side joined."""
    found = {"chat": _of_chat, "messages": _of_messages, "responses": _of_responses}[api](body)
    return joined(found)


def joined(steps: list[Step]) -> list[Step]:
    """Steps with adjacent user steps as one and adjacent texts of the assistant as one: no API tells them apart."""
    out: list[Step] = []
    for step in steps:
        last = out[-1] if out else ("",)
        if step[0] == last[0] == "user":
            out[-1] = ("user", [*last[1], *step[1]])
        elif step[0] == last[0] and step[0] in ("assistant", "system"):
            out[-1] = (step[0], last[1] + ("\n\n" if step[0] == "system" else "") + step[1])
        elif step != ("assistant", ""):
            out.append(step)
    return out


def tools_of(api: str, body: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, description and schema (as text: its order counts) of a request's tools."""
    tools = [tool["function"] if api == "chat" else tool for tool in body.get("tools", [])]
    return [
        (tool["name"], tool["description"], compact(tool["input_schema" if api == "messages" else "parameters"])) for tool in tools
    ]


def _of_chat(body: dict[str, Any]) -> list[Step]:
    out: list[Step] = []
    for message in body["messages"]:
        role, content = message["role"], message.get("content")
        if role == "tool":
            out.append(("result", message["tool_call_id"], content))
        elif role == "user":
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            out.append(("user", [("text", p["text"]) if p["type"] == "text" else ("image", p["image_url"]["url"]) for p in parts]))
        else:
            out.append((role, content or ""))
        out += [("call", c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", [])]
    return out


def _of_messages(body: dict[str, Any]) -> list[Step]:
    system = body.get("system") or []
    texts = [system] if isinstance(system, str) else [block["text"] for block in system]
    out: list[Step] = [("system", each) for each in texts]
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        out += [_of_block(message["role"], block) for block in blocks]
    return out


def _of_block(role: str, block: dict[str, Any]) -> Step:
    match block["type"]:
        case "text":
            return ("user", [("text", block["text"])]) if role == "user" else ("assistant", block["text"])
        case "image":
            source = block["source"]
            url = source.get("url") or f"data:{source['media_type']};base64,{source['data']}"
            return ("user", [("image", url)])
        case "tool_use":
            return ("call", block["id"], block["name"], compact(block["input"]))
    content = block["content"]
    return ("result", block["tool_use_id"], content if isinstance(content, str) else "".join(part["text"] for part in content))


def _of_responses(body: dict[str, Any]) -> list[Step]:
    out: list[Step] = []
    for item in body["input"]:
        if item["type"] == "function_call":
            out.append(("call", item["call_id"], item["name"], item["arguments"]))
        elif item["type"] == "function_call_output":
            output = item["output"]
            out.append(("result", item["call_id"], output if isinstance(output, str) else "".join(part["text"] for part in output)))
        else:
            out.append(_of_item(item["role"], item["content"]))
    return out


def _of_item(role: str, content: Any) -> Step:
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    if role == "user":
        return ("user", [("text", p["text"]) if p["type"] == "input_text" else ("image", p["image_url"]) for p in parts])
    said = "".join(part["text"] for part in parts)
    return ("assistant", said) if role == "assistant" else ("system", said)


# -- generated ---------------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda t: bool(t.strip()))
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}(--[a-z]{1,4})?", fullmatch=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)
objects = st.dictionaries(st.text(max_size=6), values, max_size=4)
parts = st.lists(
    texts.map(lambda t: ("text", t)) | st.sampled_from([("image", PNG), ("image", "https://example.com/a.png")]),
    min_size=1,
    max_size=3,
)


@st.composite
def conversations(draw: Any) -> list[Step]:
    """System texts, then turns; every call has its result, and the user speaks last."""
    steps: list[Step] = [("system", text) for text in draw(st.lists(texts, max_size=2))]
    for turn in range(draw(st.integers(0, 3))):
        steps.append(("user", draw(parts)))
        calls = draw(st.lists(st.tuples(names, objects), max_size=3))
        if not calls or draw(st.booleans()):
            steps.append(("assistant", draw(texts)))
        steps += [("call", f"call_{turn}_{place}", name, arguments) for place, (name, arguments) in enumerate(calls)]
        steps += [("result", f"call_{turn}_{place}", draw(texts)) for place in range(len(calls))]
    return [*steps, ("user", draw(parts))]


@st.composite
def toolboxes(draw: Any) -> list[tuple[str, str, Any]]:
    chosen = draw(st.lists(names, unique=True, max_size=3))
    schemas = st.dictionaries(
        names, st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])}), min_size=1, max_size=4
    )
    return [(name, draw(texts), {"type": "object", "properties": draw(schemas)}) for name in chosen]
