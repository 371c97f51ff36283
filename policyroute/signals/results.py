"""Whether a tool's result reports an error.

The rule, in this order
1. The shape's own flag: Anthropic's `is_error` (absent is false there), or `is_error` on an OpenAI tool message.
2. A result that is a JSON object: `error` or `errors` that is neither null, false nor empty; `is_error` or `isError` true;
   `success` or `ok` false; or an exit code (`exit_code`, `exitCode`, `returncode`, `return_code`, `exit_status`), in it or in its
   `metadata`, that is not 0.
3. Text that begins, after white space and opening marks, with error, traceback, exception, fatal or failed (any case), with the
   name of an exception (`ValueError`), or with an exit code or status that is not 0 (`Exit code: 1`, `exited with status 2`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from policyroute.signals.request import Result, parsed

_OPENING = re.compile(
    r"""[\s\[({<"'`*#]{0,16}(?:"""
    r"(?i:error|traceback|exception|fatal|failed)(?![^\W_])"
    r"|[A-Z]\w{0,60}(?:Error|Exception)\b"
    r"|(?i:(?:process |command )?exit(?:ed)?(?: with)? (?:code|status)[: ] ?-?[1-9]))",
    re.ASCII,
)
_CODES = ("exit_code", "exitCode", "returncode", "return_code", "exit_status")


def failed(result: Result) -> bool:
    """Whether `result` reports an error, by the rule above."""
    if result.failed is not None:
        return result.failed
    text = "".join(result.texts)
    fields = parsed(text) if text.lstrip()[:1] == "{" else None
    if isinstance(fields, Mapping):
        return _object_failed(fields)
    return _OPENING.match(text) is not None


def _object_failed(fields: Mapping[str, object]) -> bool:
    if any(fields.get(key) for key in ("error", "errors")):
        return True
    if any(fields.get(key) is True for key in ("is_error", "isError")) or any(
        fields.get(key) is False for key in ("success", "ok")
    ):
        return True
    inner = fields.get("metadata")
    places = (fields, inner) if isinstance(inner, Mapping) else (fields,)
    return any(isinstance(code := place.get(key), int) and code != 0 for place in places for key in _CODES)
