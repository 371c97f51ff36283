"""A request of one API answered by a model that speaks another: Chat Completions, Responses and Messages, in all six directions.

The conversion is `martian-linguafranca`'s (the extra `convert`, imported at the first conversion). What it gets wrong is cured
around it: requests and answers are cleaned before and finished after, schemas and arguments are kept out of its hands (`veil`),
and settings, ends and token counts are written here. What a conversion loses is in one table (`loss_table`).

Gemini is reached by its OpenAI-compatible endpoint, and needs none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyroute.proxy.convert import answers, failures
from policyroute.proxy.convert.library import ConversionError, available
from policyroute.proxy.convert.loss_table import losses
from policyroute.proxy.convert.request import Converted, converted
from policyroute.proxy.convert.stream import Stream
from policyroute.signals.request import Api


def request(client_api: Api, upstream_api: Api, fields: dict[str, Any]) -> Converted:
    """A client's request as the upstream's API says it, and what it loses. Raises ConversionError for what can't be converted."""
    return converted(client_api, upstream_api, fields)


def answer(client_api: Api, upstream_api: Api, body: bytes, fields: Mapping[str, Any] | None = None) -> bytes:
    """A whole answer in the client's API; `fields`, the client's request, is echoed where that API does. Raises ConversionError."""
    return answers.converted(client_api, upstream_api, body, fields or {})


def stream(client_api: Api, upstream_api: Api, fields: Mapping[str, Any]) -> Stream:
    """What turns the upstream's stream into the client's; `fields` is the client's request. Raises ConversionError."""
    return Stream(client_api, upstream_api, fields)


def error(client_api: Api, upstream_api: Api, status: int, body: bytes) -> bytes:
    """An upstream's error body in the client's API. It needs no library, and any body will do."""
    return failures.converted(client_api, status, body)


__all__ = ["ConversionError", "Converted", "Stream", "answer", "available", "error", "losses", "request", "stream"]
