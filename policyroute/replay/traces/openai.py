"""OpenAI's own files: stored completions, and the input and output files of the Batch API.

A stored completion is an answer with its `usage`; its messages are another call of the API, and are read where they were put into the
object as `messages`. A batch's requests and answers lie in two files, joined on `custom_id`. Ids such as `request-1` recur from batch
to batch: an output belongs to the one input that has all its ids, and where several have, each pair has to be read by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from policyroute.replay.traces import bodies
from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.sql import glob_free, literal, one
from policyroute.replay.traces.times import parse
from policyroute.replay.traces.values import Taken, listed, mapping, metadata, text, whole

_ANSWER = (
    "object", "choices", "usage", "service_tier", "messages", "tools", "response_format", "input_messages", "output", "instructions",
    "text", "error", "status", "incomplete_details", "max_output_tokens", "max_completion_tokens", "max_tokens", "stream", "input",
)  # fmt: skip
_OBJECTS = ("chat.completion", "response")


# -- stored completions ------------------------------------------------------------------------------------------------


def recognises_stored(head: Head) -> bool:
    """Objects `chat.completion` or `response` with their usage, or pages of them."""
    return any(
        _is_answer(row) or (row.get("object") == "list" and any(map(_is_answer, listed(row.get("data")))))
        for row in head.sample[:50]
    )


def _is_answer(row: object) -> bool:
    return isinstance(row, dict) and row.get("object") in _OBJECTS and ("choices" in row or "output" in row)


def stored(records: Iterable[Mapping[str, Any]], tally: Tally) -> Iterator[Row]:
    """The answers, each id once."""
    seen: set[str] = set()
    for record in records:
        for answer in listed(record.get("data")) if record.get("object") == "list" else (record,):
            if not _is_answer(answer):
                tally.add("other-events")
            elif str(answer.get("id")) in seen:
                tally.add("double-counted")
            else:
                seen.add(str(answer.get("id")))
                yield _stored(answer)


def _stored(answer: Mapping[str, Any]) -> Row:
    take = Taken(answer)
    take.drop(*_ANSWER)
    return {
        **bodies.asked(_request_of(answer)),
        **bodies.answered(answer),
        "ts": parse(take("created", "created_at")),
        "request_id": text(take("id")),
        "user_id": text(take("input_user", "user", "safety_identifier")),
        "provider": "openai",
        "model": text(take("model")),
        "api": "chat" if answer.get("object") == "chat.completion" else "responses",
        "metadata": metadata(take("metadata"), take.rest()),
    }


def _request_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the object says of the request: `output` and `text` of a response are not messages."""
    kept = (
        "messages",
        "input",
        "instructions",
        "tools",
        "response_format",
        "text",
        "max_output_tokens",
        "max_completion_tokens",
        "max_tokens",
    )
    messages = answer.get("messages", answer.get("input_messages"))
    return {**{name: answer[name] for name in kept if answer.get(name) is not None}, **({"messages": messages} if messages else {})}


# -- batches -------------------------------------------------------------------------------------------------------------


def recognises_batch(head: Head) -> bool:
    """An input or an output of a batch."""
    return is_input(head) or is_output(head)


def is_input(head: Head) -> bool:
    """Lines of `{custom_id, method, url, body}`."""
    return head.kind == "jsonl" and head.has("custom_id", "method", "url", "body")


def is_output(head: Head) -> bool:
    """Lines of `{id, custom_id, response, error}`."""
    return head.kind == "jsonl" and head.has("custom_id", "response", "error")


@dataclass(frozen=True, slots=True)
class Batch:
    """What is read together: requests, answers, or both; `unanswered` requests have no answer in any file that was named."""

    input: Head | None
    output: Head | None
    unanswered: int = 0

    @property
    def source(self) -> Head:
        """The file that gives the rows."""
        found = self.output or self.input
        if found is None:
            raise ValueError("a batch has an input or an output")
        return found


def batches(heads: Sequence[Head], connection: duckdb.DuckDBPyConnection) -> list[Batch]:
    """Each output with its input. Raises `TraceError` where the ids don't tell which input that is."""
    inputs, outputs = [head for head in heads if is_input(head)], [head for head in heads if is_output(head)]
    belonging: dict[str, list[Head]] = {}
    found: list[Batch] = []
    for output in outputs:
        fitting = [head for head in inputs if not _missing(_ids([output]), _ids([head]), connection)]
        if len(fitting) > 1:
            raise TraceError(
                f"its ids fit {len(fitting)} batch inputs", output.place, "read each batch by itself: its input and its output"
            )
        found.append(Batch(fitting[0] if fitting else None, output))
        for head in fitting:
            belonging.setdefault(head.digest, []).append(output)
    for head in inputs:
        answers = belonging.get(head.digest, [])
        missing = _missing(_ids([head]), _ids(answers), connection) if answers else 0
        first = next((at for at, each in enumerate(found) if each.input is head), None)
        if first is None:
            found.append(Batch(head, None))
        else:
            found[first] = replace(found[first], unanswered=missing)
    return found


def _missing(wanted: str, held: str, connection: duckdb.DuckDBPyConnection) -> int:
    """How many ids of `wanted` are not in `held`."""
    (count,) = one(connection, f"SELECT count(*) FROM (SELECT custom_id FROM {wanted} EXCEPT SELECT custom_id FROM {held})")
    return int(count)


def _ids(heads: Sequence[Head]) -> str:
    """Lines of files with their ids and numbers, as a FROM item."""
    each = (
        f"SELECT json ->> '$.custom_id' AS custom_id, json, row_number() OVER () AS line FROM read_json_objects({literal(glob_free(str(head.path)))}, format = 'newline_delimited')"
        for head in heads
    )
    return f"({' UNION ALL '.join(each)})"


def batch(connection: duckdb.DuckDBPyConnection, read: Batch, tally: Tally) -> Iterator[Row]:
    """The requests of a batch with their answers, in the order of the answers; requests alone where no answers were named."""
    if read.unanswered:
        tally.add("unanswered", read.unanswered)
    if read.input is not None and read.output is not None:
        query = (
            f"SELECT i.json, o.json FROM {_ids([read.output])} o LEFT JOIN {_ids([read.input])} i USING (custom_id) ORDER BY o.line"
        )
    else:
        side = "NULL, json" if read.input is None else "json, NULL"
        query = f"SELECT {side} FROM {_ids([read.source])} ORDER BY line"
    found = connection.cursor().execute(query)
    while rows := found.fetchmany(200):
        for request, answer in rows:
            if request is None:
                tally.add("no-requests")
            yield _batch(json.loads(request or "{}"), json.loads(answer or "{}"))


def _batch(request: Mapping[str, Any], answer: Mapping[str, Any]) -> Row:
    body, response = mapping(request.get("body")), mapping(answer.get("response"))
    told = Taken(mapping(response.get("body")))
    error, url = mapping(answer.get("error")), text(request.get("url")) or ""
    take = Taken(body)
    take.drop(*bodies.REQUEST)
    told.drop(*_ANSWER, "created", "created_at", "id")
    answered = bodies.answered(told.fields)
    served, status = text(told("model")), whole(response.get("status_code"))
    model = text(body.get("model")) or served
    user, own = text(take("user", "safety_identifier")), {**mapping(told("metadata")), **mapping(take("metadata"))}
    rest = {
        **told.rest(),
        **take.rest(),
        "batch_request_id": answer.get("id"),
        "response_id": told.fields.get("id"),
        "batch_error": error.get("message"),
    }
    return {
        **bodies.asked(body),
        **answered,
        "ts": parse(told.fields.get("created", told.fields.get("created_at"))),
        "request_id": text(answer.get("custom_id")) or text(request.get("custom_id")),
        "user_id": user,
        "provider": "openai",
        "model": model,
        "response_model": served,
        "api": "responses" if url.endswith("responses") or told.fields.get("object") == "response" else "chat",
        "status_code": status,
        "error_type": text(error.get("code")) or answered.get("error_type"),
        "service_tier": "batch",
        "metadata": metadata(own, rest),
    }
