"""OpenAI Chat Completions.

A stream's usage comes in a last chunk without choices, and only when asked for; providers also put it on the last chunk with
choices (llama.cpp, Mistral), or on every chunk. `"usage":null` on each chunk is a sign of having been asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from policyroute.proxy.wire.api import Name, Surface
from policyroute.proxy.wire.body import dumped
from policyroute.proxy.wire.counts import Counted, items, mapping, openai_counted, text
from policyroute.proxy.wire.errors import error_type, openai_error, status_in_stream
from policyroute.proxy.wire.sse import data_of, event_of, name_of, with_data
from policyroute.proxy.wire.watching import DONE, Step, Watcher

_NO_REASON = (b'"finish_reason":null', b'"finish_reason": null')
_NO_USAGE = (b'"usage":null', b'"usage": null')


def counted(answer: Mapping[str, Any]) -> Counted | None:
    """The tokens of an answer or of a chunk."""
    return openai_counted(answer, "prompt_tokens", "completion_tokens")


class Chat(Surface):
    """`POST /v1/chat/completions`."""

    api: ClassVar[Name] = "chat"
    path = "/v1/chat/completions"
    asks_usage = True

    def continued(self, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The request with `text` as an assistant message at its end; models that take that as a prefix go on with it."""
        return {**fields, "messages": [*items(fields.get("messages")), {"role": "assistant", "content": text}]}

    def usage(self, answer: Mapping[str, Any]) -> Counted | None:
        """`prompt_tokens`, cached ones included, and `completion_tokens`."""
        return counted(answer)

    def finish_reason(self, answer: Mapping[str, Any]) -> str:
        """The first choice's."""
        choices = items(answer.get("choices"))
        return text(mapping(choices[0]).get("finish_reason")) if choices else ""

    def watcher(self, fields: Mapping[str, Any], keep_text: bool = False) -> ChatWatcher:
        """The watcher of a stream of chunks."""
        return ChatWatcher(fields, keep_text)


class ChatWatcher(Watcher):
    """A stream of chunks. It has ended when all choices have a `finish_reason`: not every upstream sends `[DONE]`, which is
    what makes it `over`. The usage chunk is dropped where the client didn't ask for it."""

    kind = "chat.completion.chunk"

    def __init__(self, fields: Mapping[str, Any], keep_text: bool = False) -> None:
        super().__init__(fields, keep_text)
        asked = fields.get("n")
        self._choices = asked if isinstance(asked, int) and not isinstance(asked, bool) and 0 < asked <= 128 else 1
        self._asked = mapping(fields.get("stream_options")).get("include_usage") is True
        self._reasons: dict[int, str] = {}
        self._first: dict[str, Any] = {}
        self._tier = ""
        self.restartable = self._choices == 1

    def finishing(self) -> bytes:
        """The choices that are open end with `length`, then comes `[DONE]`."""
        out = self._before()
        for index in range(self._choices):
            if index not in self._reasons:
                self._reasons[index] = "length"
                out += self._chunk(index, {}, "length")
        self.finish_reason = self._reasons[0]
        return out + (b"" if self._over else event_of(DONE))

    def failing(self, message: str, code: str) -> bytes:
        """`{"error": ...}` as data."""
        return event_of(dumped({"error": openai_error(status_in_stream(code), message, code)}))

    def _noisy(self, block: bytes) -> bool:
        if b'"error"' in block or DONE in block or b"event:" in block:
            return True
        if not self.tool_begun and (b'"tool_calls"' in block or b'"function_call"' in block):
            return True
        return _said(block, b'"finish_reason"', _NO_REASON) or _said(block, b'"usage"', _NO_USAGE)

    def _closes(self, event: bytes) -> bool:
        return data_of(event) == DONE

    def _done(self) -> Step:
        self._over = True
        return Step.PASSED

    def _read(self, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        if value.get("error") or name_of(event) == b"error":
            self._fail(error_type(value), event)
            return Step.DROPPED, event
        if not self._first:
            self._first = {name: value.get(name) for name in ("id", "created", "model")}
        self.response_model = text(value.get("model")) or self.response_model
        self._tier = text(value.get("service_tier")) or self._tier
        choices = items(value.get("choices"))
        if self._count(value) and not choices and not self._asked:
            return Step.DROPPED, event
        step = Step.HELD
        for choice in choices:
            if isinstance(choice, dict) and self._choice(choice):
                step = Step.PASSED
        if not self._joined or self.begun:
            return step, event
        return self._as_later(step, value, event)

    def _count(self, value: dict[str, Any]) -> bool:
        """Take in a chunk's usage; whether it has one."""
        usage = value.get("usage")
        if not isinstance(usage, dict):
            return False
        found = counted(value)
        self.usage = found._replace(service_tier=found.service_tier or self._tier) if found else None
        return True

    def _choice(self, choice: dict[str, Any]) -> bool:
        """Take in a choice; whether it has content or is at its end."""
        index, reason, content = choice.get("index", 0), text(choice.get("finish_reason")), self._content(choice)
        if content.get("tool_calls") or content.get("function_call"):
            self.tool_begun = True
        if self._keep and index == 0:
            self._texts.append(text(content.get("content")))
        if reason and isinstance(index, int):
            self._reasons[index] = reason
            self.finish_reason = reason if index == 0 else self.finish_reason
            self._finished = len(self._reasons) >= self._choices
        return bool(reason) or self.begun or any(part for name, part in content.items() if name != "role")

    def _content(self, choice: dict[str, Any]) -> dict[str, Any]:
        return mapping(choice.get("delta"))

    # -- joined streams --------------------------------------------------------------------------------------------------

    def _as_later(self, step: Step, value: dict[str, Any], event: bytes) -> tuple[Step, bytes]:
        """The second stream's preamble is dropped, and the role with it: clients add up what comes twice."""
        if step is Step.HELD:
            return Step.DROPPED, event
        for choice in items(value.get("choices")):
            if mapping(mapping(choice).get("delta")).pop("role", None) is not None:
                event = with_data(event, dumped(value))
        return step, event

    def _after(self, previous: ChatWatcher) -> None:
        super()._after(previous)
        self._first = previous._first  # its id, model and time stand in what is added

    def _prologue(self) -> bytes:
        return super()._prologue() + (b"" if self._continued else self._chunk(0, {"content": "\n\n"}, None))

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        head = {"id": self._first.get("id") or "chatcmpl-cut", "object": self.kind, "created": self._first.get("created") or 0}
        return event_of(dumped({**head, "model": self._first.get("model") or "", "choices": [choice]}))


def _said(block: bytes, name: bytes, silent: tuple[bytes, bytes]) -> bool:
    """Whether a member that is on every chunk is other than null somewhere; an unusual spelling counts as that."""
    times = block.count(name)
    return times > 0 and times != block.count(silent[0]) and times != block.count(silent[1])
