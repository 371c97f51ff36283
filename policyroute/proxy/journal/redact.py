"""Redaction: what a journal that keeps prompts leaves out of every string. `built_in` takes out what looks like an e-mail address, a
phone number, a payment card or a credential; a policy's operator names another function as `module:function`.

The patterns are RE2: linear in the text, whatever it is. They find what is written plainly, and are no promise that nothing is left.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import re2

from policyroute.proxy.settings import ServeError
from policyroute.signals.tokens import sanitise

Redact = Callable[[str], str]

_KEYS = "|".join(
    (
        r"\bsk-[A-Za-z0-9_-]{16,}",
        r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bAIza[0-9A-Za-z_-]{30,}",
        r"\bhf_[A-Za-z0-9]{20,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    )
)
_BEARER = r"(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/-]{16,}=*"
_MAIL = r"[\pL\pN._%+'-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)*\.\pL{2,}"
_DIGITS = r"\+?\(?\b[0-9](?:[ ().\-/]{0,2}[0-9]){8,18}\b"


def built_in(text: str) -> str:
    """The text with `[email]`, `[phone]`, `[card]` and `[key]` in place of what looks like one."""
    try:
        return _redacted(text)
    except UnicodeEncodeError:
        return _redacted(sanitise(text))


def redactor(name: str) -> Redact:
    """The hook `module:function`, or the built-in one for "". Raises ServeError where there is none."""
    if not name:
        return built_in
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function) if module and function else None
    except (ImportError, AttributeError) as error:
        raise ServeError(f"the redaction hook `{name}` can't be loaded: {error}", "it is written `module:function`") from None
    if not callable(found):
        raise ServeError(f"the redaction hook `{name}` is no function", "it is written `module:function`")
    hook: Redact = found
    return hook


def _redacted(text: str) -> str:
    text = _sub(_KEYS, "[key]", text)
    text = _sub(_BEARER, r"\1 [key]", text)
    text = _sub(_MAIL, "[email]", text)
    return _sub(_DIGITS, _number, text)


def _sub(pattern: str, replacement: str | Callable[[Any], str], text: str) -> str:
    found: str = re2.sub(pattern, replacement, text)
    return found


def _number(match: Any) -> str:
    """A run of digits: a card where its checksum says so, a phone number where it is written as one, else as it was."""
    text: str = match.group(0)
    digits = [int(digit) for digit in text if digit.isdigit()]
    if 13 <= len(digits) <= 19 and _luhn(digits):
        return "[card]"
    written = text.startswith(("+", "(")) or any(mark in text for mark in " ().-/")
    return "[phone]" if written and 9 <= len(digits) <= 15 and not _plain(text) else text


def _luhn(digits: list[int]) -> bool:
    doubled = (digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1


def _plain(text: str) -> bool:
    """`2026-11-25 10:15` is a date, with or without what follows it, and `3.14159265358979` a decimal."""
    return bool(re2.match(r"(?:19|20)[0-9]{2}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]+\.[0-9]+$", text))
