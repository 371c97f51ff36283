"""An upstream's stream as the library converts it right: few kinds of events, in order, each with all that its API demands.

Rules of this module
- Lenient: what an upstream adds or leaves out doesn't end a stream. What isn't converted is dropped.
- Tool calls follow one another. A server may mix the pieces of several (chat), the library loses the end of the first then, and
  Anthropic's blocks never overlap: the first call is passed on as it comes, the others when the stream ends.
- The arguments that a call begins with are said again as a piece of their own: the library drops them.
- The last events are made when the answer has ended, with an end that the library knows; `told` says the real one.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from policyroute.proxy.convert import told
from policyroute.proxy.convert.answers import words
from policyroute.proxy.convert.told import End
from policyroute.proxy.convert.veil import written
from policyroute.proxy.wire.counts import Counted, items, mapping, merged, text
from policyroute.proxy.wire.surface import SURFACES
from policyroute.signals.request import Api

Event = dict[str, Any]
_NO_USAGE = {"input_tokens": 0, "output_tokens": 0}


class Source(ABC):
    """One upstream's stream. `end` is set when the answer says why it ended, `over` when nothing more can come, `error` by an
    error in the stream; `quiet` says that something was dropped on which a client may wait."""

    def __init__(self, client: Api) -> None:
        self._client = client
        self.begun = False
        self.end: End | None = None
        self.over = False
        self.refused = False
        self.quiet = False
        self.counted: Counted | None = None
        self.created = 0
        self.error: Event | None = None

    @abstractmethod
    def read(self, value: Event) -> Iterator[Event]:
        """The events for the library that an upstream's event gives."""

    @abstractmethod
    def last(self) -> Iterator[Event]:
        """Those that end the answer."""

    def _head(self, value: Event, api: Api) -> None:
        """Take in what the first event says of the whole answer."""
        found = value.get("created") or value.get("created_at")
        self.created = int(found) if isinstance(found, (int, float)) and found > 0 else int(time.time())
        self._id, self._model = told.identifier(api, value.get("id")), text(value.get("model"))
        self.begun = True


class ChatSource(Source):
    """Chunks. Only the first choice is read: no other API has several."""

    def __init__(self, client: Api) -> None:
        super().__init__(client)
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def read(self, value: Event) -> Iterator[Event]:
        if value.get("error"):
            self.error = mapping(value["error"]) or {"message": text(value["error"])}
            return
        if not self.begun:
            self._head(value, "chat")
            yield self._chunk({"role": "assistant", "content": ""})
        self.counted = SURFACES["chat"].usage(value) or self.counted
        for choice in map(mapping, items(value.get("choices"))):
            if choice.get("index", 0) == 0:
                yield from self._choice(choice)

    def last(self) -> Iterator[Event]:
        for place, call in enumerate(self._calls):
            if not call.begun:
                yield self._start(place, call)
            if call.held or not call.said:
                call.held = call.held or "{}"  # no arguments are none at all, or an empty object: OpenAI says the latter
                yield self._piece(place, call)
        yield self._chunk({}, "tool_calls" if self._calls else "stop")

    def _choice(self, choice: Event) -> Iterator[Event]:
        delta = mapping(choice.get("delta"))
        said, refusal = words(delta.get("content")), text(delta.get("refusal"))
        if said:
            yield self._chunk({"content": said})
        if refusal:
            self.refused = True
            yield self._chunk({"refusal": refusal})
        if delta.get("reasoning_content") or delta.get("reasoning"):
            self.quiet = True
        for call in map(mapping, items(delta.get("tool_calls"))):
            yield from self._call(call)
        if choice.get("finish_reason"):
            self.end = told.end_of_chat(choice.get("finish_reason"), bool(self._calls))

    def _call(self, piece: Event) -> Iterator[Event]:
        function = mapping(piece.get("function"))
        call = self._called(_place(piece, "index"), text(piece.get("id")))
        call.name = call.name or text(function.get("name"))
        arguments = function.get("arguments")
        call.held += arguments if isinstance(arguments, str) else written(arguments) if arguments else ""
        if call is not self._calls[0] or not call.name:
            self.quiet = True
            return
        if not call.begun:
            yield self._start(0, call)
        if call.held:
            yield self._piece(0, call)

    def _called(self, index: int, identifier: str) -> _Call:
        """The call that a piece belongs to. Some servers number every call 0: another identifier is another call."""
        known = self._by_index.get(index)
        if known is None or (identifier and identifier != known.id):
            known = _Call(identifier or f"call_{len(self._calls)}")
            self._by_index[index] = known
            self._calls.append(known)
        return known

    def _start(self, place: int, call: _Call) -> Event:
        call.begun = True
        named = {"index": place, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        return self._chunk({"tool_calls": [named]})

    def _piece(self, place: int, call: _Call) -> Event:
        held, call.held, call.said = call.held, "", True
        return self._chunk({"tool_calls": [{"index": place, "function": {"arguments": held}}]})

    def _chunk(self, delta: Event, reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self.created, "model": self._model}
        return {**head, "choices": [choice]}


class _Call:
    """A tool call as it comes in. `begun` and `said`: its name, a piece of its arguments were passed on; `held` wasn't yet."""

    __slots__ = ("begun", "held", "id", "name", "said")

    def __init__(self, identifier: str) -> None:
        self.id, self.name, self.held, self.begun, self.said = identifier, "", "", False, False


class MessagesSource(Source):
    """Message events. Blocks that aren't converted (reasoning, but for chat; the provider's own tools) leave no gap."""

    def __init__(self, client: Api) -> None:
        super().__init__(client)
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, tuple[int, str]] = {}  # the library's index and the kind of a block, by the upstream's index
        self._inputs: dict[int, str] = {}  # arguments that a block began with
        self._count = 0

    def read(self, value: Event) -> Iterator[Event]:
        match value.get("type"):
            case "message_start":
                yield from self._message(mapping(value.get("message")))
            case "content_block_start" if self.begun:
                yield from self._start(_place(value, "index"), mapping(value.get("content_block")))
            case "content_block_delta":
                yield from self._delta(_place(value, "index"), mapping(value.get("delta")))
            case "content_block_stop":
                yield from self._stop(_place(value, "index"))
            case "message_delta":
                self.end = told.end_of_messages(mapping(value.get("delta")).get("stop_reason"))
                self._count_in(mapping(value.get("usage")))
            case "message_stop":
                self.over = self.begun
            case "error":
                self.error = mapping(value.get("error"))
            case "ping":
                self.quiet = True

    def last(self) -> Iterator[Event]:
        yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _NO_USAGE}
        yield {"type": "message_stop"}

    def _message(self, message: Event) -> Iterator[Event]:
        if self.begun:
            return
        self._head(message, "messages")
        self._count_in(mapping(message.get("usage")))
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": []}
        yield {"type": "message_start", "message": {**head, "stop_reason": None, "stop_sequence": None, "usage": _NO_USAGE}}

    def _count_in(self, usage: Event) -> None:
        self._usage = merged(self._usage, usage)
        self.counted = SURFACES["messages"].usage({"usage": self._usage})

    def _start(self, index: int, block: Event) -> Iterator[Event]:
        kind, place = text(block.get("type")), self._count
        if kind not in ("text", "tool_use") and not (kind == "thinking" and self._client == "chat"):
            self._blocks.pop(index, None)
            return
        self._count += 1
        self._blocks[index] = place, kind
        empty: Event = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}.get(kind, {})
        if kind == "tool_use":
            empty = {"id": text(block.get("id")), "name": text(block.get("name")), "input": {}}
            self._inputs[place] = written(mapping(block.get("input")))
        yield {"type": "content_block_start", "index": place, "content_block": {"type": kind, **empty}}
        if kind != "tool_use" and block.get(kind):
            yield self._said(place, kind, text(block.get(kind)))

    def _delta(self, index: int, delta: Event) -> Iterator[Event]:
        place, kind = self._blocks.get(index, (0, ""))
        said = {
            "text_delta": ("text", "text"),
            "thinking_delta": ("thinking", "thinking"),
            "input_json_delta": ("tool_use", "partial_json"),
        }
        wanted, member = said.get(text(delta.get("type")), ("", ""))
        if not kind or wanted != kind:
            self.quiet = True
            return
        piece = text(delta.get(member))
        if piece:
            self._inputs.pop(place, None)
            yield self._said(place, kind, piece)

    def _stop(self, index: int) -> Iterator[Event]:
        place, kind = self._blocks.pop(index, (0, ""))
        if not kind:
            return
        whole = self._inputs.pop(place, "")
        if whole:
            yield self._said(place, kind, whole)
        yield {"type": "content_block_stop", "index": place}

    def _said(self, place: int, kind: str, piece: str) -> Event:
        named = {
            "text": {"type": "text_delta", "text": piece},
            "thinking": {"type": "thinking_delta", "thinking": piece},
            "tool_use": {"type": "input_json_delta", "partial_json": piece},
        }[kind]
        return {"type": "content_block_delta", "index": place, "delta": named}


class ResponsesSource(Source):
    """Response events. Of the many that say the same twice, one is read: the pieces, or where there were none the whole."""

    def __init__(self, client: Api) -> None:
        super().__init__(client)
        self._items: dict[int, int] = {}  # the library's index of an item, by the upstream's
        self._parts: dict[tuple[int, int], int] = {}
        self._said: set[tuple[int, object]] = set()  # parts and calls of which a piece was passed on
        self._calls: dict[int, int] = {}
        self._number = -1

    def read(self, value: Event) -> Iterator[Event]:
        kind, item = text(value.get("type")), _place(value, "output_index")
        if kind in ("error", "response.failed"):
            response = mapping(value.get("response"))
            self.error = mapping(response.get("error")) or mapping(value.get("error")) or value
            return
        if not self.begun:
            yield from self._start(mapping(value.get("response")))
        match kind:
            case "response.output_text.delta" | "response.refusal.delta":
                yield from self._text(value, text(value.get("delta")), kind.removesuffix(".delta"))
            case "response.output_text.done" | "response.refusal.done":
                if (item, _place(value, "content_index")) not in self._said:
                    name = "text" if "text" in kind else "refusal"
                    yield from self._text(value, text(value.get(name)), kind.removesuffix(".done"))
            case "response.output_item.added" | "response.output_item.done":
                yield from self._item(item, mapping(value.get("item")))
            case "response.function_call_arguments.delta":
                yield from self._arguments(item, text(value.get("delta")))
            case "response.function_call_arguments.done" if (item, None) not in self._said:
                yield from self._arguments(item, text(value.get("arguments")))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield from self._reasoning(value)
            case "response.completed" | "response.incomplete":
                self._ended(mapping(value.get("response")))

    def last(self) -> Iterator[Event]:
        for item in self._calls:
            if (item, None) not in self._said:
                yield from self._arguments(item, "{}")
        yield self._event("response.completed", response=self._response("completed"))

    def _start(self, response: Event) -> Iterator[Event]:
        self._head(response, "responses")
        yield self._event("response.created", response=self._response("in_progress"))

    def _response(self, status: str) -> Event:
        head = {"id": self._id, "object": "response", "created_at": self.created, "model": self._model}
        return {**head, "status": status, "output": []}

    def _ended(self, response: Event) -> None:
        self.end = told.end_of_response(response, bool(self._calls))
        self.counted = SURFACES["responses"].usage(response)
        self.over = True

    def _text(self, value: Event, piece: str, kind: str) -> Iterator[Event]:
        item, content = _place(value, "output_index"), _place(value, "content_index")
        if not piece:
            return
        refusal = kind.endswith("refusal")
        self.refused = self.refused or refusal
        place = self._items.get(item)
        if place is None:
            place = self._items[item] = len(self._items)
            message = {"type": "message", "id": f"msg_{place}", "role": "assistant", "status": "in_progress", "content": []}
            yield self._event("response.output_item.added", output_index=place, item=message)
        known = self._parts.get((item, content))
        if known is None:
            known = self._parts[item, content] = sum(1 for each in self._parts if each[0] == item)
            part: Event = {"type": "refusal", "refusal": ""} if refusal else {"type": "output_text", "text": "", "annotations": []}
            yield self._event(
                "response.content_part.added", item_id=f"msg_{place}", output_index=place, content_index=known, part=part
            )
        self._said.add((item, content))
        logprobs: Event = {} if refusal else {"logprobs": []}
        yield self._event(f"{kind}.delta", item_id=f"msg_{place}", output_index=place, content_index=known, delta=piece, **logprobs)

    def _item(self, item: int, found: Event) -> Iterator[Event]:
        if found.get("type") != "function_call":
            return
        if item not in self._items:
            place = self._items[item] = len(self._items)
            self._calls[item] = place
            named = {"call_id": text(found.get("call_id")), "name": text(found.get("name")), "arguments": ""}
            call = {"type": "function_call", "id": f"fc_{place}", **named, "status": "in_progress"}
            yield self._event("response.output_item.added", output_index=place, item=call)
        elif (item, None) not in self._said:
            yield from self._arguments(item, text(found.get("arguments")))

    def _arguments(self, item: int, piece: str) -> Iterator[Event]:
        place = self._items.get(item)
        if place is None or not piece:
            return
        self._said.add((item, None))
        yield self._event("response.function_call_arguments.delta", item_id=f"fc_{place}", output_index=place, delta=piece)

    def _reasoning(self, value: Event) -> Iterator[Event]:
        if self._client != "chat":
            self.quiet = True
            return
        item, summary = _place(value, "output_index"), _place(value, "summary_index")
        place = self._items.get(item)
        piece = text(value.get("delta"))
        if place is None:
            place = self._items[item] = len(self._items)
            reasoning: Event = {"type": "reasoning", "id": f"rs_{place}", "summary": []}
            yield self._event("response.output_item.added", output_index=place, item=reasoning)
            yield self._event(
                "response.reasoning_summary_part.added", **self._thought(place), part={"type": "summary_text", "text": ""}
            )
        elif (item, ("summary", summary)) not in self._said:
            piece = f"\n\n{piece}"
        self._said.add((item, ("summary", summary)))
        yield self._event("response.reasoning_summary_text.delta", **self._thought(place), delta=piece)

    def _thought(self, place: int) -> Event:
        return {"item_id": f"rs_{place}", "output_index": place, "summary_index": 0}

    def _event(self, kind: str, **members: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **members}


def _place(value: Event, name: str) -> int:
    """The number of a block, an item or a call; the first where none is told."""
    found = value.get(name)
    return found if isinstance(found, int) else 0


SOURCES: dict[Api, type[Source]] = {"chat": ChatSource, "messages": MessagesSource, "responses": ResponsesSource}
