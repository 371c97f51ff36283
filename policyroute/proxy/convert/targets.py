"""A client's stream: the library's events, completed and in the order that the client's API has.

Rules of this module
- What ends a stream is written here, from what the upstream told, and not taken from the library: it calls a filtered answer an
  error, a stop sequence a limit, and stops blocks twice.
- Messages: one block is open at a time, closed before the next begins. Responses: sequence numbers have no gap, and the last event
  has the items that the others told of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from policyroute.proxy.convert import told
from policyroute.proxy.convert.json_text import line_of
from policyroute.proxy.convert.sources import Source
from policyroute.proxy.wire.counts import items, mapping
from policyroute.proxy.wire.errors import anthropic_type, openai_error
from policyroute.proxy.wire.sse import event_of
from policyroute.proxy.wire.watching import DONE
from policyroute.signals.request import Api

Event = dict[str, Any]


class Target(ABC):
    """One client's stream, as the answer to its request `fields`."""

    def __init__(self, fields: Mapping[str, Any], source: Source) -> None:
        self._fields, self._source = fields, source
        self._begun = False

    @abstractmethod
    def put(self, event: Event) -> bytes:
        """An event of the library's."""

    @abstractmethod
    def end(self) -> bytes:
        """The events that end a whole answer."""

    @abstractmethod
    def fail(self, status: int, message: str) -> bytes:
        """The event of an error, after which nothing comes."""

    def alive(self) -> bytes:
        """What says that the upstream still works, although it has nothing for this client."""
        return b": alive\n\n"


class ChatTarget(Target):
    """Chunks, and `[DONE]`. The usage is told where it was asked for."""

    def __init__(self, fields: Mapping[str, Any], source: Source) -> None:
        super().__init__(fields, source)
        self._asked = mapping(fields.get("stream_options")).get("include_usage") is True
        self._head: Event = {}

    def put(self, event: Event) -> bytes:
        choices = items(event.get("choices"))
        if not choices or choices[0].get("finish_reason"):
            return b""
        delta = mapping(choices[0].get("delta"))
        if not self._begun:
            delta = {**delta, "role": "assistant", "content": delta.get("content") or "", "refusal": None}
            self._first(event)
        elif all(
            not mapping(call.get("function")).get("arguments") and not call.get("id") for call in items(delta.get("tool_calls"))
        ) and not any(delta.get(name) for name in ("content", "reasoning_content", "refusal")):
            return b""
        return self._chunk(delta)

    def end(self) -> bytes:
        out = b""
        if not self._begun:
            self._first({})
            out = self._chunk({"role": "assistant", "content": "", "refusal": None})
        out += self._chunk({}, told.finish_reason(self._source.end or "stop"))
        usage = told.usage("chat", self._source.counted)
        if self._asked and usage is not None:
            out += event_of(line_of({**self._head, "choices": [], "usage": usage}))
        return out + event_of(DONE)

    def fail(self, status: int, message: str) -> bytes:
        return event_of(line_of({"error": openai_error(status, message)}))

    def _first(self, event: Event) -> None:
        self._begun = True
        head = {"id": told.identifier("chat", event.get("id")), "object": "chat.completion.chunk", "created": self._source.created}
        self._head = {**head, "model": event.get("model") or ""}

    def _chunk(self, delta: Event, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event_of(line_of({**self._head, "choices": [choice], **({"usage": None} if self._asked else {})}))


class MessagesTarget(Target):
    """Message events."""

    _open: int | None = None

    def put(self, event: Event) -> bytes:
        match event.get("type"):
            case "message_start":
                return self._start(mapping(event.get("message")))
            case "content_block_start":
                closed, self._open = self._close(), event.get("index")
                return closed + self._event(
                    "content_block_start", index=self._open, content_block=told.block(mapping(event.get("content_block")))
                )
            case "content_block_delta":
                return self._event("content_block_delta", index=event.get("index"), delta=event.get("delta"))
            case "content_block_stop" if event.get("index") == self._open:
                return self._close()
        return b""

    def end(self) -> bytes:
        out = b"" if self._begun else self._start({})
        reason = told.stop_reason(self._source.end or "stop", self._source.refused)
        usage = told.usage("messages", self._source.counted)
        out += self._close() + self._event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
        return out + self._event("message_stop")

    def fail(self, status: int, message: str) -> bytes:
        return self._event("error", error={"type": anthropic_type(status), "message": message})

    def alive(self) -> bytes:
        return self._event("ping") if self._begun else b""

    def _start(self, message: Event) -> bytes:
        self._begun = True
        head = {"id": told.identifier("messages", message.get("id")), "type": "message", "role": "assistant"}
        told_later = {
            "stop_reason": None, "stop_sequence": None, "stop_details": None, "container": None,
            "usage": told.usage("messages", self._source.counted),
        }  # fmt: skip
        return self._event("message_start", message={**head, "model": message.get("model") or "", "content": [], **told_later})

    def _close(self) -> bytes:
        index, self._open = self._open, None
        return b"" if index is None else self._event("content_block_stop", index=index)

    def _event(self, kind: str, **members: Any) -> bytes:
        return event_of(line_of({"type": kind, **members}), kind)


class ResponsesTarget(Target):
    """Response events."""

    def __init__(self, fields: Mapping[str, Any], source: Source) -> None:
        super().__init__(fields, source)
        self._number = 0
        self._named: Event = {"id": told.identifier("responses", ""), "model": ""}
        self._output: list[Event] = []
        self._declared = told.namespaces(fields)
        self._names: dict[object, str] = {}

    def put(self, event: Event) -> bytes:
        kind, response = str(event.get("type")), mapping(event.get("response"))
        if kind == "response.created":
            self._named = {"id": told.identifier("responses", response.get("id")), "model": response.get("model") or ""}
            return self._start()
        if response or kind in ("keepalive", "error"):
            return b""
        found = {name: value for name, value in event.items() if name not in ("type", "sequence_number")}
        if isinstance(event.get("item"), dict):
            found["item"] = item = told.call_named(event["item"], self._declared)
            self._names[item.get("id")] = str(item.get("name"))
            if kind == "response.output_item.done":
                self._output.append(item)
        if kind == "response.function_call_arguments.done":
            found["name"] = self._names.get(event.get("item_id"), "")
        return self._event(kind, **found)

    def end(self) -> bytes:
        out = b"" if self._begun else self._start()
        state = told.response_end(self._source.end or "stop")
        usage = told.usage("responses", self._source.counted)
        return out + self._event(
            f"response.{state['status']}", response=self._response({**state, "output": self._output, "usage": usage})
        )

    def fail(self, status: int, message: str) -> bytes:
        error = openai_error(status, message)
        return self._event("error", code=error["code"], message=message, param=None, error=error)

    def _start(self) -> bytes:
        self._begun = True
        response = self._response({})
        return self._event("response.created", response=response) + self._event("response.in_progress", response=response)

    def _response(self, found: Event) -> Event:
        return told.response_object(self._fields, self._source.created, {**self._named, **found})

    def _event(self, kind: str, **members: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event_of(line_of({"type": kind, "sequence_number": number, **members}), kind)


TARGETS: dict[Api, type[Target]] = {"chat": ChatTarget, "messages": MessagesTarget, "responses": ResponsesTarget}
