"""Events of a client's stream, completed from linguafranca's (see `streams` for the rules)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from policyroute.proxy.conversion import answers
from policyroute.proxy.conversion.reading import Ending, Object
from policyroute.proxy.wire.body import dumped
from policyroute.proxy.wire.sse import event_of
from policyroute.signals.request import Api


class Writer(ABC):
    """Writes one stream for the client that asked with `fields`; `now` in seconds since 1970."""

    def __init__(self, fields: Mapping[str, Any], now: int) -> None:
        self.now = now
        options = fields.get("stream_options")
        self.asked = isinstance(options, Mapping) and options.get("include_usage") is True

    @abstractmethod
    def written(self, event: Object, ending: Ending) -> bytes:
        """One event of linguafranca's."""

    def last(self) -> bytes:
        """What ends the stream."""
        return b""


class ChatWriter(Writer):
    """Chunks and `[DONE]`; `"usage": null` on each chunk before the one that tells it, where it was asked for."""

    def written(self, event: Object, ending: Ending) -> bytes:
        """A chunk."""
        event.pop("service_tier", None)
        event["created"] = event.get("created") or self.now
        usage = event.get("usage")
        if usage and not event["choices"]:
            return event_of(dumped(event)) if self.asked else b""
        for choice in event["choices"]:
            choice.setdefault("logprobs", None)
            if choice.get("finish_reason"):
                choice["finish_reason"] = answers.CHAT_REASONS.get(ending.word, "stop")
        return event_of(dumped({**event, "usage": None} if self.asked else event))

    def last(self) -> bytes:
        """`[DONE]`."""
        return event_of(b"[DONE]")


class MessagesWriter(Writer):
    """Messages events. linguafranca leaves parallel calls open beside each other; here a block ends before the next begins."""

    def __init__(self, fields: Mapping[str, Any], now: int) -> None:
        super().__init__(fields, now)
        self._open: int | None = None

    def written(self, event: Object, ending: Ending) -> bytes:
        """An event, with the end of the block before it where that is missing."""
        before = b""
        match event.get("type"):
            case "message_start":
                event["message"] = answers.message(event["message"], None)
            case "content_block_start":
                before, self._open = self._closed(), event["index"]
            case "content_block_stop":
                return self._closed() if event["index"] == self._open else b""
            case "message_delta":
                before = self._closed()
                event["delta"] = {
                    "stop_reason": answers.STOP_REASONS.get(ending.word, "end_turn"),
                    "stop_sequence": ending.met or None,
                }
                event["usage"] = answers.usage(event.get("usage"))
        return before + _named(event)

    def _closed(self) -> bytes:
        index, self._open = self._open, None
        return b"" if index is None else _named({"type": "content_block_stop", "index": index})


class ResponsesWriter(Writer):
    """Responses events, numbered anew."""

    def __init__(self, fields: Mapping[str, Any], now: int) -> None:
        super().__init__(fields, now)
        self._number = 0

    def written(self, event: Object, ending: Ending) -> bytes:
        """An event; the last one is `response.incomplete` where the answer is cut or filtered."""
        if "response" in event:
            running = event["type"] in ("response.created", "response.in_progress")
            event["response"] = answers.response(event["response"], None if running else ending, self.now)
            if not running:
                event["type"] = f"response.{event['response']['status']}"
        event["sequence_number"] = self._number
        self._number += 1
        return _named(event)


def _named(event: Object) -> bytes:
    return event_of(dumped(event), event["type"])


WRITERS: Mapping[Api, type[Writer]] = MappingProxyType(
    {"chat": ChatWriter, "messages": MessagesWriter, "responses": ResponsesWriter}
)
