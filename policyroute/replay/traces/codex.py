"""Codex's session transcripts (rollouts): envelopes `{timestamp, type, payload}`, a file per session.

Usage is told by `token_usage_record` lines, one per answer, or in older files by `token_count` events, which are also written anew when
only rate limits changed: an event whose running total did not move is a repetition. Where a file has records, its events tell the
same usage again and are left out. Cached tokens are part of the input, reasoning is part of the output.

The prompt is rebuilt from the items before: what the model said since the last usage is the answer, all before it the prompt. A
compaction replaces the prompt. `ts` is when the usage was written, after the answer: the request's start is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policyroute.replay.traces import chat
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head, json_lines
from policyroute.replay.traces.times import parse
from policyroute.replay.traces.values import known, mapping, metadata, text, whole

EXTRAS = {"call": "BIGINT", "effort": "VARCHAR"}
RECORD, EVENT = "token_usage_record", "token_count"
_KINDS = ("session_meta", "turn_context", "response_item", "event_msg", "compacted", RECORD)
_COUNTS = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens", "reasoning_output_tokens")


def recognises(head: Head) -> bool:
    """Lines of `{timestamp, type, payload}` with the types of a rollout."""
    return (
        head.kind == "jsonl" and head.has("timestamp", "type", "payload") and any(row.get("type") in _KINDS for row in head.sample)
    )


@dataclass(slots=True)
class _Session:
    """A session as far as it was read."""

    id: str | None = None
    provider: str | None = None
    model: str | None = None
    effort: str | None = None
    told: dict[str, Any] = field(default_factory=dict)
    system: list[str] = field(default_factory=list)
    prompt: list[str] = field(default_factory=list)
    answer: list[dict[str, Any]] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    total: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0

    def say(self, message: dict[str, Any]) -> None:
        """An item: the model's belongs to the answer, anything after it to the next prompt."""
        if message["role"] != "assistant":
            (self.later if self.answer else self.prompt).append(dumps(message))
            return
        if self.later:  # the usage of the answer before this one was not written
            self.close()
        self.answer.append(message)

    def close(self) -> None:
        """The answer is complete: it becomes part of the prompt."""
        if self.answer:
            self.prompt.append(dumps(chat.joined(self.answer)))
        self.prompt += self.later
        self.answer, self.later = [], []

    def compact(self, payload: Mapping[str, Any]) -> None:
        """The history was replaced, by other items or by a summary."""
        items = payload.get("replacement_history")
        messages = (
            chat.of_items(items) if isinstance(items, list) else [{"role": "user", "content": text(payload.get("message")) or ""}]
        )
        self.prompt = [*self.system, *map(dumps, messages)]
        self.answer, self.later = [], []


def rows(head: Head, seen: set[object], tally: Tally) -> Iterator[Row]:
    """The calls of a file. `seen` holds the calls of all files that were read: a resumed or forked session repeats its past."""
    records = any(entry.get("type") == RECORD for _, _, entry in json_lines(head.path))
    session = _Session()
    for _, _, entry in json_lines(head.path):
        payload = mapping(entry.get("payload"))
        usage = _usage(entry, payload, session, records, tally)
        if usage is not None:
            yield from _call(entry, payload, usage, session, seen, tally)
        elif not _context(entry, payload, session):
            tally.add("other-events")


def _context(entry: Mapping[str, Any], payload: Mapping[str, Any], session: _Session) -> bool:
    """Takes what a line says of the session; False where it says nothing that is used."""
    match entry.get("type"):
        case "session_meta":
            base = payload.get("base_instructions", payload.get("instructions"))
            system = text(mapping(base).get("text")) or text(base)
            session.id, session.provider = text(payload.get("id")), text(payload.get("model_provider"))
            session.told = {
                name: payload[name] for name in ("cwd", "originator", "cli_version", "source", "git") if name in payload
            }
            if system and not session.system:
                session.system = [dumps({"role": "system", "content": system})]
                session.prompt = [*session.system, *session.prompt]
        case "turn_context":
            session.model = text(payload.get("model")) or session.model
            session.effort = text(payload.get("effort")) or session.effort
        case "response_item":
            message = chat.of_item(payload)
            if message is not None:
                session.say(message)
        case "compacted":
            session.compact(payload)
        case _:
            return False
    return True


def _usage(
    entry: Mapping[str, Any], payload: Mapping[str, Any], session: _Session, records: bool, tally: Tally
) -> Mapping[str, Any] | None:
    """The usage that a line tells of one call; None where it tells none, or again what was told."""
    if entry.get("type") == RECORD:
        return mapping(payload.get("usage"))
    if records or payload.get("type") != EVENT:
        return None
    info = mapping(payload.get("info"))
    total, last = mapping(info.get("total_token_usage")), mapping(info.get("last_token_usage"))
    if not total and not last:
        return None
    before, session.total = session.total, total
    if total and all(whole(total.get(name)) == whole(before.get(name)) for name in _COUNTS):
        tally.add("double-counted")
        return None
    return last or {
        name: max((whole(total.get(name)) or 0) - (whole(before.get(name)) or 0), 0) for name in _COUNTS if name in total
    }


def _call(
    entry: Mapping[str, Any],
    payload: Mapping[str, Any],
    usage: Mapping[str, Any],
    session: _Session,
    seen: set[object],
    tally: Tally,
) -> Iterator[Row]:
    response = text(payload.get("response_id"))
    key: object = response or (str(entry.get("timestamp")), dumps(payload))
    if key in seen:
        tally.add("double-counted")
        tally.aside.append(response or str(entry.get("timestamp")))
    else:
        seen.add(key)
        yield _row(entry, response, usage, session)
        session.calls += 1
    session.close()


def _row(entry: Mapping[str, Any], response: str | None, usage: Mapping[str, Any], session: _Session) -> Row:
    counts = dict(zip(_COUNTS, (whole(usage.get(name)) for name in _COUNTS), strict=True))
    answer = chat.joined(session.answer) if session.answer else None
    rest = {name: value for name, value in usage.items() if name not in (*_COUNTS, "total_tokens")}
    return {
        "ts": parse(entry.get("timestamp")),
        "request_id": response or f"{session.id or ''}:{session.calls}",
        "conversation_id": session.id,
        "provider": session.provider,
        "model": session.model,
        "api": "responses",
        **known({
            "input_tokens": counts["input_tokens"], "cached_tokens": counts["cached_input_tokens"],
            "cache_write_5m_tokens": counts["cache_write_input_tokens"], "output_tokens": counts["output_tokens"],
            "reasoning_tokens": counts["reasoning_output_tokens"],
        }),
        "messages": f"[{','.join(session.prompt)}]" if session.prompt else None,
        "output": dumps(answer) if answer is not None else None,
        "finish_reason": ("tool_calls" if answer.get("tool_calls") else "stop") if answer is not None else None,
        "metadata": metadata(session.told, rest),
        "call": session.calls,
        "effort": session.effort,
    }  # fmt: skip
