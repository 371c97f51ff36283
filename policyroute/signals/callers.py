"""Who asks: user, team, conversation and the wish for a better answer, from the body's fields, its metadata and headers.

Rules of this module
- The first place that holds a non-empty string (or a number, as text) counts; the places are tried in the order of the tables.
- Body before metadata before headers: headers are what a client library adds, the body is what the caller wrote.
- Header names are in lower case here. Anybody can send any of them: these keys divide and count, they grant nothing.
- A conversation that nobody names has its opening for a name: a hash of the user, the system message and the first user message. It
  stays the same as the conversation grows. Two that open alike, of a user who isn't named, are taken for one.
- Claude Code packs account and session into `metadata.user_id` (`user_..._account_..._session_...`); the two are taken apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from policyroute.signals.request import Content, parsed


class Places(NamedTuple):
    """Names under which a key may be found."""

    fields: tuple[str, ...]
    metadata: tuple[str, ...]
    headers: tuple[str, ...]


USER = Places(
    ("user", "safety_identifier"),
    ("user_id", "user"),
    ("x-user-id", "x-litellm-end-user-id", "x-litellm-customer-id", "helicone-user-id"),
)
TEAM = Places((), ("team", "team_id"), ("x-team", "x-team-id", "x-litellm-team-id"))
CONVERSATION = Places(
    ("conversation", "prompt_cache_key"),
    ("conversation_id", "session_id", "thread_id", "conversation"),
    (
        "x-conversation-id",
        "x-claude-code-session-id",
        "session-id",
        "session_id",
        "thread-id",
        "x-session-id",
        "x-session-affinity",
        "x-litellm-session-id",
        "helicone-session-id",
    ),
)

OPENING = 4_000  # characters of a message that name a conversation
_PACKED = re.compile(r"(.+?)_session_([0-9A-Za-z-]+)")
_NO = frozenset({"", "0", "false", "no", "off", "none", "null"})


def user(content: Content, headers: Mapping[str, str]) -> str | None:
    """The caller's user, None where the request does not say."""
    found = _found(USER, content, headers)
    return _unpacked(found)[0] if found else None


def team(content: Content, headers: Mapping[str, str]) -> str | None:
    """The caller's team, None where the request does not say."""
    return _found(TEAM, content, headers)


def conversation(content: Content, headers: Mapping[str, str]) -> str | None:
    """The conversation that the request belongs to: by its name, else by its opening; None where there are no messages."""
    found = _found(CONVERSATION, content, headers)
    if found:
        return found
    packed = _key((content.metadata or {}).get("user_id"))
    return (_unpacked(packed)[1] if packed else "") or _opening(content, headers)


def _opening(content: Content, headers: Mapping[str, str]) -> str | None:
    texts = []
    for message in content.messages or ():
        texts.append("\n".join(message.texts)[:OPENING])
        if message.role == "user":
            told = "\x1f".join((user(content, headers) or "", *texts)).encode("utf-8", "replace")
            return f"opening-{hashlib.md5(told, usedforsecurity=False).hexdigest()[:24]}"
    return None


def escalated(content: Content, headers: Mapping[str, str]) -> bool | None:
    """Header `x-escalate` or metadata `escalated`: false for empty, 0, false, no, off, none and null, else true."""
    for value in (headers.get("x-escalate"), (content.metadata or {}).get("escalated")):
        if value is not None:
            return str(value).strip().lower() not in _NO
    return None


def _found(places: Places, content: Content, headers: Mapping[str, str]) -> str | None:
    for source, names in ((content.fields, places.fields), (content.metadata, places.metadata), (headers, places.headers)):
        if not source:
            continue
        for name in names:
            value = source.get(name)
            if value is not None and (key := _key(value)):
                return key
    return None


def _key(value: object) -> str:
    """A key as text; `{"id": ...}` (a Responses conversation) is its id; other values are none."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        value = value.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value)
    return value.strip() if isinstance(value, str) else ""


def _digits(value: int) -> str:
    return str(value) if value.bit_length() <= 64 else ""  # Python refuses to write out numbers of thousands of digits


def _unpacked(user_id: str) -> tuple[str, str]:
    """User and session of Claude Code's user id, which is `USER_session_SESSION` or a JSON object; ("...", "") of any other."""
    if match := _PACKED.fullmatch(user_id):
        return match[1], match[2]
    fields: Any = parsed(user_id) if user_id.startswith("{") else None
    if isinstance(fields, Mapping) and (session := _key(fields.get("session_id"))):
        return _key(fields.get("account_uuid")) or _key(fields.get("device_id")) or user_id, session
    return user_id, ""
