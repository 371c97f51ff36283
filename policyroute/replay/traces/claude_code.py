"""Claude Code's session transcripts: a line per content block, a file per session, and a file per sub-agent below it.

An answer is written as several lines that repeat its usage: they are one call, named by `message.id` and `requestId`; its content is
that of all lines, its counts those of the line that counts most output, which is the last one written. A call that another
file (a resumed session) or a sub-agent's copy of the conversation repeats is read once, from the main conversation where that has it.

The prompt is rebuilt from the lines before: a compaction starts it anew, an edited message cuts it back to its parent. System
prompt and tool definitions are not in the transcript. `ts` is when the answer's first line was written: the request's start is not
recorded. Which provider served is not told either: the same client talks to Bedrock, Vertex and others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policyroute.replay.traces import bodies
from policyroute.replay.traces.aider import money
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head, json_lines
from policyroute.replay.traces.times import parse
from policyroute.replay.traces.values import Taken, listed, mapping, metadata, text, truth, whole

EXTRAS = {"call": "BIGINT"}
SYNTHETIC = "<synthetic>"
Key = tuple[str, str]
_USAGE = (
    "input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens_details",
    "service_tier",
)  # fmt: skip


def recognises(head: Head) -> bool:
    """Lines of `{type, sessionId, uuid, parentUuid, message}`."""
    return head.kind == "jsonl" and head.has("type", "sessionId", "uuid", "parentUuid")


def key_of(entry: Mapping[str, Any]) -> Key | None:
    """What names the call of a line; None for a line that is no answer of a model."""
    message = mapping(entry.get("message"))
    told = text(message.get("id"))
    if entry.get("type") != "assistant" or told is None or not mapping(message.get("usage")) or message.get("model") == SYNTHETIC:
        return None
    return told, text(entry.get("requestId")) or ""


@dataclass(slots=True)
class Index:
    """Calls over all files: those of main conversations, and those that were read already."""

    main: set[Key] = field(default_factory=set)
    seen: set[Key] = field(default_factory=set)

    def add(self, head: Head) -> None:
        """Learns which calls a file's main conversation has."""
        for _, _, entry in json_lines(head.path):
            key = key_of(entry)
            if key is not None and not entry.get("isSidechain"):
                self.main.add(key)


@dataclass(slots=True)
class _Talk:
    """A conversation as far as it went: its messages as JSON, and how many of them there were after each line."""

    name: str
    prompt: list[str] = field(default_factory=list)
    after: dict[str, int] = field(default_factory=dict)
    calls: int = 0


def rows(head: Head, index: Index, tally: Tally) -> Iterator[Row]:
    """The calls of a file in the order of their first lines."""
    entries = [entry for _, _, entry in json_lines(head.path)]
    answers: dict[Key, list[dict[str, Any]]] = {}
    for entry in entries:
        key = key_of(entry)
        if key is not None:
            answers.setdefault(key, []).append(entry)
    talks: dict[str, _Talk] = {}
    places: dict[str, str] = {}
    for entry in entries:
        talk = _talk(entry, talks, places)
        key = key_of(entry)
        if key is not None and talk is not None:
            lines = answers[key]
            if entry is lines[0]:
                yield from _call(lines, key, talk, index, tally)
            talk.after[str(entry.get("uuid"))] = len(talk.prompt)
        elif entry.get("type") == "user" and talk is not None and mapping(entry.get("message")):
            _said(entry, talk)
        else:
            tally.add("other-events")


def _talk(entry: Mapping[str, Any], talks: dict[str, _Talk], places: dict[str, str]) -> _Talk | None:
    """The conversation that a line belongs to: a session, or one agent below it, whose first line has no parent."""
    session = text(entry.get("sessionId"))
    if session is None:
        return None
    name, parent, own = session, text(entry.get("parentUuid")), str(entry.get("uuid"))
    if entry.get("isSidechain"):
        agent = text(entry.get("agentId")) or (places.get(parent) if parent else None) or own
        places[own] = agent
        name = f"{session}/{agent}"
    talk = talks.setdefault(name, _Talk(name))
    if entry.get("subtype") == "compact_boundary" or (entry.get("type") == "user" and parent is None):
        talk.prompt = []
    return talk


def _said(entry: Mapping[str, Any], talk: _Talk) -> None:
    """A user's line: what was typed, or a tool's result. A typed line below an earlier one starts a branch from there."""
    message = mapping(entry.get("message"))
    parent = text(entry.get("parentUuid"))
    results = any(mapping(block).get("type") == "tool_result" for block in listed(message.get("content")))
    if not results and parent in talk.after:
        talk.prompt = talk.prompt[: talk.after[parent]]
    talk.prompt.append(dumps({"role": "user", "content": message.get("content") or ""}))
    talk.after[str(entry.get("uuid"))] = len(talk.prompt)


def _call(lines: list[dict[str, Any]], key: Key, talk: _Talk, index: Index, tally: Tally) -> Iterator[Row]:
    answer = {"role": "assistant", "content": [block for line in lines for block in _blocks(line)]}
    copied = bool(lines[0].get("isSidechain")) and key in index.main
    if copied or key in index.seen:
        tally.add("double-counted", len(lines))
        tally.aside.append("/".join(key))
    else:
        index.seen.add(key)
        if len(lines) > 1:
            tally.add("double-counted", len(lines) - 1)
        yield _row(lines, key, talk, answer)
        talk.calls += 1
    if answer["content"]:
        talk.prompt.append(dumps(answer))


def _blocks(line: Mapping[str, Any]) -> list[Any]:
    said = mapping(line.get("message")).get("content")
    return [{"type": "text", "text": said}] if isinstance(said, str) and said else listed(said)


def _row(lines: list[dict[str, Any]], key: Key, talk: _Talk, answer: Mapping[str, Any]) -> Row:
    first = lines[0]
    most = max(lines, key=lambda line: whole(mapping(mapping(line.get("message")).get("usage")).get("output_tokens")) or 0)
    usage = mapping(mapping(most.get("message")).get("usage"))
    reasons = (text(mapping(line.get("message")).get("stop_reason")) for line in reversed(lines))
    take = Taken(first)
    take.drop("type", "uuid", "parentUuid", "message", "timestamp", "requestId", "userType", "isApiErrorMessage")
    rest = {name: value for name, value in usage.items() if name not in _USAGE}
    return {
        "ts": parse(first.get("timestamp")),
        "request_id": "/".join(part for part in key if part),
        "conversation_id": talk.name,
        "model": text(mapping(first.get("message")).get("model")),
        "api": "messages",
        **bodies.tokens(usage),
        "messages": f"[{','.join(talk.prompt)}]",
        "output": dumps(answer) if answer["content"] else None,
        "error_type": "error" if truth(first.get("isApiErrorMessage")) else None,
        "finish_reason": next((reason for reason in reasons if reason), None),
        "cost_usd": money(take("costUSD")),
        "service_tier": text(usage.get("service_tier")),
        "metadata": metadata(None, {**take.rest(), **rest}),
        "call": talk.calls,
    }
