"""What an API is to the gateway: its path, its requests on the way out, its answers, errors and streams on the way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from policyroute.proxy.wire import body as bodies
from policyroute.proxy.wire.counts import Counted
from policyroute.proxy.wire.errors import openai_body
from policyroute.proxy.wire.splice import with_model
from policyroute.proxy.wire.watching import Watcher
from policyroute.signals.request import Api

Name = Api | Literal["embeddings", "completions"]


class Surface(ABC):
    """One API. Stateless: there is one of each, in `surface.SURFACES`."""

    api: ClassVar[Name]
    path: ClassVar[str]
    asks_usage: ClassVar[bool] = False
    """Whether a stream tells its usage only when asked."""

    def outgoing(self, body: bytes, fields: Mapping[str, Any], model_id: str, *, ask_usage: bool = True) -> bytes:
        """The request for an upstream that speaks this API: its model replaced, a stream's usage asked for, all else untouched.

        `fields` is the parsed body. Without `ask_usage` the usage isn't asked for: there are providers that refuse the question.
        """
        return with_model(body, fields, model_id, ask_usage=self.asks_usage and ask_usage)

    def dumped(self, fields: Mapping[str, Any]) -> bytes:
        """A request body that says `fields`."""
        return bodies.dumped(fields)

    def continued(self, fields: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The request with `text` as the beginning of its answer."""
        return dict(fields)

    def error(self, status: int, message: str, code: str = "", request_id: str = "") -> bytes:
        """The API's error body; its type follows from the status."""
        return openai_body(status, message, code)

    @abstractmethod
    def usage(self, answer: Mapping[str, Any]) -> Counted | None:
        """The tokens of a whole answer, None where it doesn't tell them or they can't be."""

    @abstractmethod
    def finish_reason(self, answer: Mapping[str, Any]) -> str:
        """Why the answer ended, in the provider's word; "" where it is silent."""

    def response_model(self, answer: Mapping[str, Any]) -> str:
        """The model that the answer names."""
        model = answer.get("model")
        return model if isinstance(model, str) else ""

    @abstractmethod
    def watcher(self, fields: Mapping[str, Any], keep_text: bool = False) -> Watcher:
        """The watcher of a stream that answers the request `fields`."""
