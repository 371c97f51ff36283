"""Events of an upstream's stream, cut down to what linguafranca's schema takes (see `reading` for why, `streams` for the rules)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from policyroute.proxy.conversion import reading
from policyroute.proxy.conversion.library import ConversionError
from policyroute.proxy.conversion.reading import Ending, Object, objects, text
from policyroute.signals.request import Api


class Reader(ABC):
    """Reads one stream. `ending` is why the answer ended, as far as it is known; `over`: the last event has come."""

    def __init__(self, client: Api) -> None:
        self.client: Api = client
        self.ending = Ending()
        self.over = False

    @abstractmethod
    def read(self, event: Mapping[str, Any]) -> Iterator[Object]:
        """The events to convert instead of `event`."""

    def last(self) -> Iterator[Object]:
        """Events that were held back until the end."""
        return iter(())


class ChatReader(Reader):
    """Chunks. Counts are held until the end: linguafranca ends the answer with them, and some servers send them on every chunk."""

    def __init__(self, client: Api) -> None:
        super().__init__(client)
        self._head: Object = {}
        self._usage: Object | None = None
        self._calls: dict[int, bool] = {}  # by index: whether its arguments have begun
        self._reason = ""

    def read(self, event: Mapping[str, Any]) -> Iterator[Object]:
        """A chunk as one chunk per piece: text, refusal, a call's beginning, its arguments."""
        if event.get("error"):
            raise ConversionError("the stream tells an error")
        self._usage = reading.chat_usage(event) or self._usage
        if not self._head:
            self._head = {**reading.chat_head(event), "object": "chat.completion.chunk"}
            yield self._chunk({"role": "assistant"})
        for choice in objects(event.get("choices")):
            if not choice.get("index"):
                yield from self._choice(choice)

    def last(self) -> Iterator[Object]:
        """The finish, then the counts."""
        if not self._head:
            return
        yield from self._arguments_of_last()
        self.ending = reading.chat_ending({"finish_reason": self._reason}, bool(self._calls))
        known = "tool_calls" if self._calls else "length" if self.ending.word == "length" else "stop"
        yield self._chunk({}, known)
        if self._usage is not None:
            yield {**self._head, "choices": [], "usage": self._usage}

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Object]:
        self._reason = text(choice.get("finish_reason")) or self._reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        for name in ("content", "refusal"):
            if said := text(delta.get(name)):
                yield self._chunk({name: said})
        for number, call in enumerate(objects(delta.get("tool_calls"))):
            yield from self._call(call, reading.count(call.get("index", number)))

    def _call(self, call: Mapping[str, Any], index: int) -> Iterator[Object]:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        if index not in self._calls:
            yield from self._arguments_of_last()
            self._calls[index] = False
            named = {"name": text(function.get("name")), "arguments": ""}
            identifier = text(call.get("id")) or f"call_{index}"
            yield self._chunk({"tool_calls": [{"index": index, "id": identifier, "type": "function", "function": named}]})
        if arguments := text(function.get("arguments")):
            self._calls[index] = True
            yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})

    def _arguments_of_last(self) -> Iterator[Object]:
        """A call that has ended without arguments has an empty object of them."""
        index = next(reversed(self._calls), None)
        if index is not None and not self._calls[index]:
            self._calls[index] = True
            yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": "{}"}}]})

    def _chunk(self, delta: Object, reason: str | None = None) -> Object:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


class MessagesReader(Reader):
    """Messages events. Blocks of kinds that other APIs don't have are left out, with all their events."""

    def __init__(self, client: Api) -> None:
        super().__init__(client)
        self._usage: Object = {}
        self._open: dict[int, str] = {}  # type of each block that is passed on
        self._begun: set[int] = set()  # calls whose arguments have begun

    def read(self, event: Mapping[str, Any]) -> Iterator[Object]:
        """The event from its known fields."""
        index = reading.count(event.get("index"))
        match event.get("type"):
            case "message_start":
                found = event["message"]
                self._usage = reading.messages_usage(found.get("usage"))
                yield {"type": "message_start", "message": reading.messages_head(found) | {"content": [], "usage": self._usage}}
            case "content_block_start":
                yield from self._start(index, event["content_block"])
            case "content_block_delta" if index in self._open:
                yield from self._delta(index, event["delta"])
            case "content_block_stop" if index in self._open:
                if self._open.pop(index) == "tool_use" and index not in self._begun:
                    yield _delta(index, "input_json_delta", "partial_json", "{}")
                yield {"type": "content_block_stop", "index": index}
            case "message_delta":
                self.ending = reading.messages_ending(event["delta"])
                self._usage = reading.messages_usage(event.get("usage"), self._usage)
                reason = reading.messages_reason(self.ending)
                yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": self._usage}
            case "message_stop":
                self.over = True
                yield {"type": "message_stop"}
            case "error":
                raise ConversionError("the stream tells an error")

    def _start(self, index: int, block: Mapping[str, Any]) -> Iterator[Object]:
        kind = text(block.get("type"))
        match kind:
            case "text":
                made: Object = {"type": "text", "text": ""}
            case "thinking" if self.client == "chat":
                made = {"type": "thinking", "thinking": "", "signature": ""}
            case "tool_use":
                made = {"type": "tool_use", "id": text(block.get("id")), "name": text(block.get("name")), "input": {}}
            case _:
                return
        self._open[index] = kind
        yield {"type": "content_block_start", "index": index, "content_block": made}
        if said := text(block.get("text")):
            yield _delta(index, "text_delta", "text", said)

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[Object]:
        for kind, name in (("text_delta", "text"), ("thinking_delta", "thinking"), ("input_json_delta", "partial_json")):
            if delta.get("type") == kind and (said := text(delta.get(name))):
                if name == "partial_json":
                    self._begun.add(index)
                yield _delta(index, kind, name, said)


def _delta(index: int, kind: str, name: str, said: str) -> Object:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: said}}


class ResponsesReader(Reader):
    """Responses events: those that begin and end items, and what is said between them."""

    _SAID: Mapping[str, str] = MappingProxyType({
        "response.output_text.delta": "content_index", "response.refusal.delta": "content_index",
        "response.reasoning_summary_text.delta": "summary_index", "response.function_call_arguments.delta": "",
    })  # fmt: skip
    _PARTS = ("response.content_part.added", "response.content_part.done")
    _ENDS = ("response.completed", "response.incomplete")

    def __init__(self, client: Api) -> None:
        super().__init__(client)
        self._items: dict[int, Object] = {}
        self._begun: set[int] = set()  # calls whose arguments have begun
        self._number = 0

    def read(self, event: Mapping[str, Any]) -> Iterator[Object]:
        """The event from its known fields."""
        kind = text(event.get("type"))
        for made in self._read(kind, event):
            yield {**made, "sequence_number": self._number}
            self._number += 1

    def _read(self, kind: str, event: Mapping[str, Any]) -> Iterator[Object]:
        index = reading.count(event.get("output_index"))
        if kind in ("response.created", "response.in_progress"):
            yield {
                "type": kind,
                "response": reading.responses_body({**event["response"], "output": []}, self.client, "in_progress"),
            }
        elif kind == "response.output_item.added":
            yield from self._added(index, event["item"])
        elif kind in self._ENDS:
            yield from self._ended(event["response"])
        elif kind in ("response.failed", "error"):
            raise ConversionError("the stream tells an error")
        elif index in self._items:
            yield from self._within(kind, index, event)

    def _added(self, index: int, item: Mapping[str, Any]) -> Iterator[Object]:
        made = reading.item_of(item, self.client)
        if made is None:
            return
        self._items[index] = made
        empty = {"function_call": "arguments", "message": "content", "reasoning": "summary"}[made["type"]]
        made[empty] = "" if empty == "arguments" else []
        yield {"type": "response.output_item.added", "output_index": index, "item": dict(made)}

    def _within(self, kind: str, index: int, event: Mapping[str, Any]) -> Iterator[Object]:
        place: Object = {"item_id": self._items[index]["id"], "output_index": index}
        if kind in self._SAID:
            if said := text(event.get("delta")):
                self._begun.add(index)
                numbered = {self._SAID[kind]: reading.count(event.get(self._SAID[kind]))} if self._SAID[kind] else {}
                logged: Object = {"logprobs": []} if kind == "response.output_text.delta" else {}
                yield {"type": kind, **place, **numbered, **logged, "delta": said}
        elif kind in self._PARTS and event["part"].get("type") in ("output_text", "refusal"):
            part = event["part"] if kind.endswith("done") else {"type": event["part"]["type"]}
            yield {"type": kind, **place, "content_index": reading.count(event.get("content_index")), "part": reading.part_of(part)}
        elif kind == "response.output_item.done":
            yield from self._done(index, event["item"], place)

    def _done(self, index: int, item: Mapping[str, Any], place: Object) -> Iterator[Object]:
        made = reading.item_of(item, self.client)
        if made is None:
            return
        if made["type"] == "function_call":
            made["arguments"] = made["arguments"].strip() or "{}"
            if index not in self._begun:
                yield {"type": "response.function_call_arguments.delta", **place, "delta": made["arguments"]}
            yield {"type": "response.function_call_arguments.done", **place, "arguments": made["arguments"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": {**made, "id": place["item_id"]}}

    def _ended(self, response: Mapping[str, Any]) -> Iterator[Object]:
        self.ending = reading.responses_ending(response)
        if self.ending.word == "stop" and any(item["type"] == "function_call" for item in self._items.values()):
            self.ending = Ending("tool")
        self.over = True
        made = reading.responses_body(response, self.client)
        yield {"type": f"response.{made['status']}", "response": made}


READERS: Mapping[Api, type[Reader]] = MappingProxyType(
    {"chat": ChatReader, "messages": MessagesReader, "responses": ResponsesReader}
)
