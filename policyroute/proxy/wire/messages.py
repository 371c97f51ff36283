"""Anthropic Messages.

A stream's tokens are told twice: at its start (input, cache) and at its end (output, and with some providers all of them); what
the end leaves out is taken from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyroute.proxy.wire.api import Surface
from policyroute.proxy.wire.body import dumped, loads
from policyroute.proxy.wire.counts import Counted, anthropic_counted, items, mapping, merged, text
from policyroute.proxy.wire.errors import anthropic_body, anthropic_type, error_type, status_in_stream
from policyroute.proxy.wire.sse import data_of, event_of, with_data
from policyroute.proxy.wire.watching import Step, Watcher


class Messages(Surface):
    """`POST /v1/messages`."""

    api = "messages"
    path = "/v1/messages"

    def continued(self, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The request with `text` as a prefilled answer; the API refuses one that ends with white space."""
        return {**fields, "messages": [*items(fields.get("messages")), {"role": "assistant", "content": text.rstrip()}]}

    def error(self, status: int, message: str, code: str = "", request_id: str = "") -> bytes:
        """The API's error body; it has no place for a code."""
        return anthropic_body(status, message, request_id)

    def usage(self, answer: Mapping[str, Any]) -> Counted | None:
        """`input_tokens` with cache reads and writes added, and `output_tokens`."""
        return anthropic_counted(answer.get("usage"))

    def finish_reason(self, answer: Mapping[str, Any]) -> str:
        """`stop_reason`."""
        return text(answer.get("stop_reason"))

    def watcher(self, fields: Mapping[str, Any], keep_text: bool = False) -> MessagesWatcher:
        """The watcher of a stream of message events."""
        return MessagesWatcher(fields, keep_text)


class MessagesWatcher(Watcher):
    """A stream of message events; it has ended with `message_stop`.

    Joined to another, its `message_start` is dropped, the blocks that the first left open are closed, and its own are counted on
    from theirs. One that continues a text goes on in the block that is open.
    """

    def __init__(self, fields: Mapping[str, Any], keep_text: bool = False) -> None:
        super().__init__(fields, keep_text)
        self._told: dict[str, Any] = {}  # usage as told so far
        self._open: dict[int, str] = {}  # kinds of blocks begun and not ended, by the client's index
        self._next = 0  # the client's index of the next block
        self._before_join: tuple[dict[int, str], int] = ({}, 0)
        self._shift = 0
        self._spaced = True  # nothing has to be put between two texts
        self._may_go_on = False  # the first block may go on in the one that is open
        self._goes_on = False  # it does

    def finishing(self) -> bytes:
        """Open blocks are closed, the message ends with `max_tokens`. Its output tokens are an estimate: the upstream told none."""
        out = self._before()
        opened, _ = self._client()
        out += b"".join(_event("content_block_stop", index=index) for index in opened)
        if not self.finish_reason:
            self.finish_reason = "max_tokens"
            delta = {"stop_reason": "max_tokens", "stop_sequence": None}
            out += _event("message_delta", delta=delta, usage={"output_tokens": self.delivered})
        return out if self._over else out + _event("message_stop")

    def failing(self, message: str, code: str) -> bytes:
        """An `error` event."""
        return _event("error", error={"type": anthropic_type(status_in_stream(code)), "message": message})

    def _noisy(self, block: bytes) -> bool:
        return b"content_block_s" in block or b"message_" in block or b"error" in block

    def _closes(self, event: bytes) -> bool:
        return b"message_stop" in event and mapping(loads(data_of(event))).get("type") == "message_stop"

    def _read(self, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        match value.get("type"):
            case "content_block_delta":
                return self._delta(value, event)
            case "content_block_start":
                return self._start(value, event)
            case "content_block_stop":
                self._open.pop(self._index(value), None)
                return Step.HELD, self._placed(value, event)
            case "message_start":
                self._message(mapping(value.get("message")))
                return (Step.DROPPED if self._joined else Step.HELD), event
            case "message_delta":
                self._end(value)
                return Step.PASSED, event
            case "message_stop":
                self._over = True
                return Step.PASSED, event
            case kind:
                if kind == "error" or value.get("error"):
                    self._fail(error_type(value), event)
                return Step.HELD, event

    def _message(self, message: dict[str, Any]) -> None:
        self.response_model = text(message.get("model"))
        self._told = merged(self._told, mapping(message.get("usage")))

    def _end(self, value: dict[str, Any]) -> None:
        self.finish_reason = text(mapping(value.get("delta")).get("stop_reason")) or self.finish_reason
        usage = value.get("usage")
        if isinstance(usage, dict):
            self._told = merged(self._told, usage)
            self.usage = anthropic_counted(self._told)

    def _start(self, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        block = mapping(value.get("content_block"))
        kind = text(block.get("type"))
        empty = kind in ("text", "thinking") and not block.get(kind)
        if self._may_go_on and kind == "text" and empty:
            self._may_go_on, self._goes_on = False, True
            self._shift = self._next = self._shift - 1
            self._begin(self._index(value), kind)
            return Step.DROPPED, event
        self._may_go_on = False
        self.tool_begun = self.tool_begun or kind.endswith("tool_use")
        self._begin(self._index(value), kind)
        event = self._placed(value, event)
        if kind == "text" and not self._spaced:
            self._spaced = True
            event += _event("content_block_delta", index=value.get("index"), delta={"type": "text_delta", "text": "\n\n"})
        return (Step.HELD if empty else Step.PASSED), event

    def _delta(self, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        if self._keep:
            self._texts.append(text(mapping(value.get("delta")).get("text")))
        return Step.PASSED, self._placed(value, event)

    def _begin(self, index: int, kind: str) -> None:
        self._open[index] = kind
        self._next = max(self._next, index + 1)

    def _index(self, value: dict[str, Any]) -> int:
        """The client's index of a block's event."""
        index = value.get("index")
        return (index if isinstance(index, int) else 0) + self._shift

    def _placed(self, value: dict[str, Any], event: bytes) -> bytes:
        if not self._shift:
            return event
        value["index"] = self._index(value)
        return with_data(event, dumped(value))

    # -- joined streams ----------------------------------------------------------------------------------------------------

    def _client(self) -> tuple[dict[int, str], int]:
        """The blocks that are open for the client, and the index of its next one."""
        return (self._open, self._next) if self.begun else self._before_join

    def _after(self, previous: MessagesWatcher) -> None:
        super()._after(previous)
        self._rewrites = True
        opened, place = self._before_join = previous._client()
        self._shift = self._next = place
        self._spaced = self._continued
        self._may_go_on = self._continued and opened == {place - 1: "text"}

    def _prologue(self) -> bytes:
        opened, _ = self._before_join
        self._may_go_on = False
        ended = () if self._goes_on else opened
        return b"".join(_event("content_block_stop", index=index) for index in ended) + super()._prologue()


def _event(kind: str, **members: Any) -> bytes:
    return event_of(dumped({"type": kind, **members}), kind)
