"""Errors in the shape of each API, and what an error inside a stream means for the next attempt.

Types and shapes: https://platform.openai.com/docs/guides/error-codes and https://docs.anthropic.com/en/api/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyroute.proxy.wire.body import dumped

_OPENAI = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
}
_OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_ANTHROPIC = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
_STATUSES = {
    "invalid_request_error": "400", "authentication_error": "401", "invalid_api_key": "401", "billing_error": "402",
    "permission_error": "403", "not_found_error": "404", "request_too_large": "413", "rate_limit_error": "429",
    "rate_limit_exceeded": "429", "insufficient_quota": "429", "server_error": "500", "api_error": "500", "timeout_error": "504",
    "overloaded_error": "529",
}  # fmt: skip
_IN_STREAM = {"no_upstream": 503, "timeout": 504}  # the gateway's own codes, as the status they would have had


def openai_type(status: int) -> str:
    """The `type` of an OpenAI error of this status."""
    return _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")


def anthropic_type(status: int) -> str:
    """The `type` of an Anthropic error of this status."""
    return _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")


def openai_error(status: int, message: str, code: str = "") -> dict[str, Any]:
    """The `error` object of OpenAI's APIs."""
    return {"message": message, "type": openai_type(status), "param": None, "code": code or _OPENAI_CODES.get(status)}


def openai_body(status: int, message: str, code: str = "") -> bytes:
    """An OpenAI error body."""
    return dumped({"error": openai_error(status, message, code)})


def anthropic_body(status: int, message: str, request_id: str = "") -> bytes:
    """An Anthropic error body; it has no place for a code."""
    return dumped(
        {"type": "error", "error": {"type": anthropic_type(status), "message": message}, "request_id": request_id or None}
    )


def status_in_stream(code: str) -> int:
    """The status that an error inside a stream would have had: its code where that is one, else by what it names."""
    return int(code) if code.isdecimal() and len(code) == 3 else _IN_STREAM.get(code, 500)


def error_type(value: Mapping[str, Any]) -> str:
    """What an event's `error` calls itself: a status code as text where it has one, else its type or code, else `error`."""
    error = value.get("error")
    if not isinstance(error, dict):
        return "error"
    code = error.get("code")
    if isinstance(code, int) and 400 <= code <= 599:
        return str(code)
    return next((_word(error[name]) for name in ("type", "code", "status") if _word(error.get(name))), "error")


def cause_of(failure: str) -> str:
    """A watcher's `failure` as the cause of a failed attempt: a status code as text, or `malformed`."""
    if failure == "malformed" or (failure.isdecimal() and len(failure) == 3):
        return failure
    return _STATUSES.get(failure, "500")


def _word(value: object) -> str:
    """A name that can stand in a log or a metric, "" for anything else."""
    return value if isinstance(value, str) and len(value) <= 64 and value.isascii() and value.isidentifier() else ""
