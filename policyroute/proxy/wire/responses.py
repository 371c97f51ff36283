"""OpenAI Responses.

A response is known by its id: the provider keeps it, and the next request may name it. Two providers' streams can't be made one
response, so a stream that broke off is not restarted here (`restartable` is False); it is ended or failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from policyroute.proxy.wire.api import Surface
from policyroute.proxy.wire.body import dumped, loads
from policyroute.proxy.wire.counts import Counted, items, mapping, openai_counted, text
from policyroute.proxy.wire.errors import error_type, openai_error, status_in_stream
from policyroute.proxy.wire.sse import data_of, event_of
from policyroute.proxy.wire.watching import Step, Watcher

_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,18})')
_LAST = ("response.completed", "response.incomplete", "response.failed")
_OPENING = frozenset({
    "response.created", "response.in_progress", "response.queued", "response.content_part.added",
    "response.reasoning_summary_part.added",
})  # fmt: skip


def counted(response: Mapping[str, Any]) -> Counted | None:
    """The tokens of a response object."""
    return openai_counted(response, "input_tokens", "output_tokens")


def _reason(response: Mapping[str, Any]) -> str:
    return text(mapping(response.get("incomplete_details")).get("reason")) or text(response.get("status"))


class Responses(Surface):
    """`POST /v1/responses`."""

    api = "responses"
    path = "/v1/responses"

    def continued(self, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The request with `text` as an assistant's message at its end."""
        asked = fields.get("input")
        before = [{"role": "user", "content": asked}] if isinstance(asked, str) else items(asked)
        return {**fields, "input": [*before, {"role": "assistant", "content": text}]}

    def usage(self, answer: Mapping[str, Any]) -> Counted | None:
        """`input_tokens`, cached ones included, and `output_tokens`."""
        return counted(answer)

    def finish_reason(self, answer: Mapping[str, Any]) -> str:
        """Why the response is incomplete, else its status."""
        return _reason(answer)

    def watcher(self, fields: Mapping[str, Any], keep_text: bool = False) -> ResponsesWatcher:
        """The watcher of a stream of response events."""
        return ResponsesWatcher(fields, keep_text)


class ResponsesWatcher(Watcher):
    """A stream of response events; it has ended with `response.completed`, `response.incomplete` or `response.failed`, the last
    of which is a failure and isn't passed on."""

    restartable = False

    def __init__(self, fields: Mapping[str, Any], keep_text: bool = False) -> None:
        super().__init__(fields, keep_text)
        self._response: dict[str, Any] = {}
        self._output: list[Any] = []  # items that are done

    def finishing(self) -> bytes:
        """`response.incomplete`, as a limit on output would cause it. Its output has the items that were done, and with
        `keep_text` the text of the one that wasn't; items that are open stay so."""
        if self._over:
            return self._before()
        self.finish_reason = "max_output_tokens"
        output = [*self._output, *self._unfinished()]
        state = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": output}
        head = {"id": "resp_cut", "object": "response", "created_at": 0, "model": "", "error": None}
        return self._before() + self._event("response.incomplete", response={**head, **self._response, **state})

    def failing(self, message: str, code: str) -> bytes:
        """An `error` event: its members as documented, and again under `error`, where clients look for them too."""
        error = openai_error(status_in_stream(code), message, code)
        return self._event("error", code=error["code"], message=message, param=None, error=error)

    def _unfinished(self) -> list[Any]:
        said = self.text.removeprefix("".join(_said(item) for item in self._output))
        if not said:
            return []
        content = [{"type": "output_text", "text": said, "annotations": []}]
        return [{"id": "msg_cut", "type": "message", "role": "assistant", "status": "incomplete", "content": content}]

    def _event(self, kind: str, **members: Any) -> bytes:
        seen = _NUMBER.findall(self._last)
        number = int(seen[-1]) + 1 if seen else 0
        return event_of(dumped({"type": kind, "sequence_number": number, **members}), kind)

    def _noisy(self, block: bytes) -> bool:
        return (
            b"response.completed" in block or b"response.incomplete" in block or b"response.failed" in block
            or b"output_item." in block or b"error" in block
        )  # fmt: skip

    def _closes(self, event: bytes) -> bool:
        if not any(kind.encode() in event for kind in _LAST):
            return False
        return mapping(loads(data_of(event))).get("type") in _LAST

    def _read(self, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        kind = text(value.get("type"))
        if kind in _LAST:
            return self._end(kind, mapping(value.get("response")), event)
        if kind == "error" or (value.get("error") and not kind):
            nested = isinstance(value.get("error"), dict)
            self._fail(error_type(value if nested else {"error": {"code": value.get("code")}}), event)
            return Step.DROPPED, event
        if kind == "response.output_text.delta" and self._keep:
            self._texts.append(text(value.get("delta")))
        if kind == "response.output_item.added":
            return self._added(mapping(value.get("item"))), event
        if kind == "response.output_item.done":
            self._output.append(value.get("item"))
        if kind == "response.created":
            self._response = mapping(value.get("response"))
            self.response_model = text(self._response.get("model"))
        return (Step.PASSED if kind.startswith("response.") and kind not in _OPENING else Step.HELD), event

    def _added(self, item: dict[str, Any]) -> Step:
        if not text(item.get("type")).endswith("_call"):
            return Step.HELD
        self.tool_begun = True
        return Step.PASSED

    def _end(self, kind: str, response: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        self._over = True
        self.usage = counted(response)
        self.finish_reason = _reason(response)
        self.response_model = text(response.get("model")) or self.response_model
        if kind == "response.failed":
            self._fail(error_type(response), event)
        return Step.PASSED, event


def _said(item: object) -> str:
    """The text of an item that is done."""
    parts = items(mapping(item).get("content"))
    return "".join(text(mapping(part).get("text")) for part in parts if mapping(part).get("type") == "output_text")
