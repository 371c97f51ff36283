"""The Berkeley function-calling leaderboard: requests with tool schemas, and what each model answered to them.

`valid` is the leaderboard's verdict, and its `error_type` is what the checker found, not a failure of the call: it is kept as
`check_error`. Model names carry how they were called (`-FC`): the suffix is cut from `model`, `model_name` keeps it. Tool schemas
are written in OpenAI's shape: their types in JSON Schema's words, dots in function names as underscores, as they were sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head, json_lines, reading
from policyroute.replay.traces.sql import glob_free, literal

EXTRAS = {"test_category": "VARCHAR", "model_name": "VARCHAR", "valid": "BOOLEAN", "check_error": "VARCHAR"}
V4_EXTRAS = {"turn": "BIGINT", "involved_classes": "VARCHAR"}
_SUFFIX = re.compile(r"-FC(-Auto|-Any)?$")
# What stands in the place of an answer where the provider gave none: such calls have no tokens at all.
_FAILURES = (
    ("Internal error", "internal_error"),
    ("Invalid JSON payload", "invalid_request"),
    ("Parsing error", "parsing_error"),
    ("", "provider_error"),
)
_SCHEMA_TYPES = {
    "dict": "object", "HashMap": "object", "Hashtable": "object", "Object": "object",
    "float": "number", "double": "number", "Double": "number", "Float": "number",
    "int": "integer", "long": "integer", "short": "integer", "byte": "integer", "Bigint": "integer", "Integer": "integer", "Long": "integer",
    "bool": "boolean", "Boolean": "boolean",
    "list": "array", "tuple": "array", "List": "array", "ArrayList": "array", "Array": "array", "Queue": "array", "Stack": "array", "Set": "array",
    "any": "string", "Any": "string", "char": "string", "String": "string", "str": "string",
}  # fmt: skip
_KNOWN_TYPES = frozenset({"object", "number", "integer", "boolean", "array", "string", "null"})


def recognises(head: Head) -> bool:
    """A table of requests, or of models' answers to them."""
    return is_requests(head) or is_results(head)


def is_requests(head: Head) -> bool:
    """A table of requests: `id, test_category, question, function`."""
    return head.kind not in ("json", "jsonl") and head.has("id", "test_category", "question", "function")


def is_results(head: Head) -> bool:
    """A table of answers: `id, test_category, model_name, result`."""
    return head.kind not in ("json", "jsonl") and head.has("id", "test_category", "model_name", "result")


def recognises_v4(head: Head) -> bool:
    """Lines of `{id, question, function | involved_classes}`."""
    return head.kind == "jsonl" and head.has("id", "question") and (head.has("function") or head.has("involved_classes"))


def rows(connection: duckdb.DuckDBPyConnection, requests: Head | None, results: Head | None, tally: Tally) -> Iterator[Row]:
    """One row per answer where there are answers, else one per request."""
    asked: dict[str, tuple[str, str, str]] = {}
    if requests is not None:
        for identifier, category, question, function in _fetch(
            connection, requests, ("id", "test_category", "question", "function")
        ):
            asked[identifier] = (category, dumps([{"role": "user", "content": question}]), dumps(_tools(json.loads(function))))
    if results is None:
        yield from (_request(identifier, *values) for identifier, values in asked.items())
        return
    names = (
        "id",
        "test_category",
        "model_name",
        "result",
        "input_token_count",
        "output_token_count",
        "latency",
        "valid",
        "error_type",
    )
    for answer in _fetch(connection, results, names):
        known = asked.get(answer[0])
        if known is None:
            tally.add("no-requests")
        yield _answer(dict(zip(names, answer, strict=True)), known, tally)


def _fetch(connection: duckdb.DuckDBPyConnection, head: Head, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    listed = ", ".join(name if head.has(name) else f"NULL AS {name}" for name in names)
    with reading(head.place):
        found = connection.cursor().execute(f"SELECT {listed} FROM read_parquet({literal(glob_free(str(head.path)))})")
        while batch := found.fetchmany(2_000):
            yield from batch


def _request(identifier: str, category: str, messages: str, tools: str) -> Row:
    return {
        "request_id": identifier,
        "messages": messages,
        "tools": tools,
        "metadata": dumps({"test_category": category}),
        "test_category": category,
    }


def _answer(found: dict[str, Any], known: tuple[str, str, str] | None, tally: Tally) -> Row:
    name, category = found["model_name"], found["test_category"]
    output, calls = _output(found["result"])
    failed = found["input_token_count"] == 0 and found["output_token_count"] == 0
    told = str(output["content"] or "")
    tally.add("failed-call", int(failed))
    tally.add("model-suffix", int(bool(_SUFFIX.search(name))))
    return {
        "request_id": f"{found['id']}:{name}",
        "model": _SUFFIX.sub("", name),
        "input_tokens": found["input_token_count"],
        "output_tokens": found["output_token_count"],
        "messages": known[1] if known else None,
        "tools": known[2] if known else None,
        "output": dumps(output),
        "error_type": next(kind for start, kind in _FAILURES if told.startswith(start)) if failed else None,
        "finish_reason": None if failed else "tool_calls" if calls else "stop",
        "latency_ms": None if found["latency"] is None else found["latency"] * 1000,
        "metadata": dumps(
            {"id": found["id"], "test_category": category, "valid": found["valid"], "check_error": found["error_type"]}
        ),
        "test_category": category,
        "model_name": name,
        "valid": found["valid"],
        "check_error": found["error_type"],
    }


def _output(result: str) -> tuple[dict[str, Any], bool]:
    """The answer as an assistant's message, and whether it calls tools. Arguments come as JSON text or as an object."""
    value = json.loads(result) if result.startswith(("[", '"', "{")) else result
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        return {"role": "assistant", "content": value if isinstance(value, str) else dumps(value)}, False
    pairs = [pair for call in value for pair in call.items()]
    calls = [
        {
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else dumps(given)},
        }
        for at, (name, given) in enumerate(pairs)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}, bool(calls)


def rows_v4(head: Head, tally: Tally) -> Iterator[Row]:
    """One row per turn of each request; later turns have the user's earlier ones before them, but not the answers."""
    for _, _, entry in json_lines(head.path):
        turns, single = entry["question"], len(entry["question"]) == 1
        tools = dumps(_tools(entry["function"])) if "function" in entry else None
        classes = dumps(entry["involved_classes"]) if "involved_classes" in entry else None
        before: list[Any] = []
        for turn, messages in enumerate(turns):
            before = [*before, *messages]
            tally.add("answers-missing", int(turn > 0))
            yield {
                "request_id": entry["id"] if single else f"{entry['id']}:{turn}",
                "conversation_id": entry["id"],
                "messages": dumps(before),
                "tools": tools,
                "turn": turn,
                "involved_classes": classes,
            }


def _tools(function: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's tool list; version 1 gives one function without a list."""
    functions = function if isinstance(function, list) else [function]
    return [
        {
            "type": "function",
            "function": {
                "name": each["name"].replace(".", "_"),
                "description": each.get("description", ""),
                "parameters": _schema(each.get("parameters", {})),
            },
        }
        for each in functions
    ]


def _schema(schema: Any) -> Any:
    """A schema whose types are JSON Schema's; a type that it doesn't know is a string, as the leaderboard sends it."""
    if isinstance(schema, list):
        return [_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _schema(value) for key, value in schema.items() if key not in ("properties", "default", "enum")}
    if isinstance(schema.get("type"), str):
        type_ = _SCHEMA_TYPES.get(schema["type"], schema["type"])
        out["type"] = type_ if type_ in _KNOWN_TYPES else "string"
    if isinstance(schema.get("properties"), dict):
        out["properties"] = {name: _schema(value) for name, value in schema["properties"].items()}
    return out | {key: schema[key] for key in ("default", "enum") if key in schema}
