"""APIs that no policy decides: embeddings, and the completions of before chat. Their bytes pass; only the model is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from policyroute.proxy.wire.api import Name
from policyroute.proxy.wire.body import dumped
from policyroute.proxy.wire.chat import Chat, ChatWatcher
from policyroute.proxy.wire.counts import Counted, openai_counted, text
from policyroute.proxy.wire.sse import event_of


class Completions(Chat):
    """`POST /v1/completions`: the stream of chat, with `text` for `delta`. Usage is not asked for: older servers refuse to."""

    api: ClassVar[Name] = "completions"
    path = "/v1/completions"
    asks_usage = False

    def continued(self, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
        """A prompt of text with the text so far behind it."""
        prompt = fields.get("prompt")
        return {**fields, "prompt": prompt + text} if isinstance(prompt, str) else dict(fields)

    def watcher(self, fields: Mapping[str, Any], keep_text: bool = False) -> CompletionsWatcher:
        """The watcher of its stream."""
        return CompletionsWatcher(fields, keep_text)


class CompletionsWatcher(ChatWatcher):
    """A stream of completions."""

    kind = "text_completion"

    def _content(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {"content": text(choice.get("text"))}

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, "text": text(delta.get("content")), "finish_reason": reason}
        head = {"id": self._first.get("id") or "cmpl-cut", "object": self.kind, "created": self._first.get("created") or 0}
        return event_of(dumped({**head, "model": self._first.get("model") or "", "choices": [choice]}))


class Embeddings(Chat):
    """`POST /v1/embeddings`: no stream, and no output tokens."""

    api: ClassVar[Name] = "embeddings"
    path = "/v1/embeddings"
    asks_usage = False

    def usage(self, answer: Mapping[str, Any]) -> Counted | None:
        """`prompt_tokens`."""
        return openai_counted(answer, "prompt_tokens", "completion_tokens", output=False)

    def finish_reason(self, answer: Mapping[str, Any]) -> str:
        """None: an embedding just is."""
        return ""
