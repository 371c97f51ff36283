"""LiteLLM's two tables: `LiteLLM_SpendLogs` as it is exported from the database, and `StandardLoggingPayload` as callbacks write it.

`prompt_tokens` is the total, cached tokens included; the parts lie in a `usage_object` that depends on the version. Both are read where
they lie: this module only says, for the columns that a file has, which SQL reads them. Calls that are no completions (embeddings,
images, speech) are set aside, and so are answers from LiteLLM's own cache, which cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from policyroute.replay.traces.casts import cast, timestamp
from policyroute.replay.traces.fields import Field, find, inside
from policyroute.replay.traces.head import Head
from policyroute.replay.traces.schema import BY_NAME
from policyroute.replay.traces.sql import literal
from policyroute.replay.traces.tables import Shape

_USAGE = ("metadata.usage_object", "hidden_params.usage_object", "response.usage")
_USED = ("messages", "stream", "team_id", "request_duration_ms", "response_time")
_OTHERS = "embedding|moderation|image|speech|transcription|rerank|batch|file|realtime|search|ocr|video"
# Canonical column: the fields that hold it, best first.
_PLACES: dict[str, tuple[str, ...]] = {
    "user_id": ("end_user", "metadata.user_api_key_end_user_id", "user", "metadata.user_api_key_user_id"),
    "team": ("team_id", "metadata.user_api_key_team_id"),
    "cached_tokens": tuple(f"{usage}.{part}" for usage in _USAGE for part in ("prompt_tokens_details.cached_tokens", "cache_read_input_tokens")),
    "cache_write_5m_tokens": tuple(f"{usage}.cache_creation_input_tokens" for usage in _USAGE),
    "reasoning_tokens": tuple(f"{usage}.completion_tokens_details.reasoning_tokens" for usage in _USAGE),
    "tools": ("model_parameters.tools", "proxy_server_request.tools"),
    "response_format": ("model_parameters.response_format", "proxy_server_request.response_format"),
    "max_output_tokens": ("model_parameters.max_tokens", "model_parameters.max_completion_tokens", "proxy_server_request.max_tokens"),
    "messages": ("messages", "proxy_server_request.messages"),
    "stream": ("stream", "model_parameters.stream", "proxy_server_request.stream"),
    "status_code": ("error_information.error_code", "metadata.error_information.error_code"),
    "response_model": ("response.model",),
    "service_tier": ("response.service_tier", "model_parameters.service_tier"),
}  # fmt: skip


def recognises_spend(head: Head) -> bool:
    """The columns of `LiteLLM_SpendLogs`."""
    return head.has("request_id", "call_type", "api_key", "spend", "startTime", "endTime")


def recognises_payload(head: Head) -> bool:
    """The fields of `StandardLoggingPayload`."""
    return head.has("call_type", "response_cost", "startTime", "endTime", "custom_llm_provider")


def shape(head: Head) -> Shape:
    """How a file of either table is read."""
    expressions = {name: sql for name, paths in _PLACES.items() if (sql := _first(head, name, paths))}
    expressions |= _answer(head) | _times(head) | _failure(head)
    aside = _aside(head)
    where = " AND ".join(f"NOT coalesce({sql}, false)" for sql in aside.values())
    return Shape(expressions=expressions, uses=_USED, where=where, aside=aside)


def _found(head: Head, path: str) -> Field | None:
    return find(head.fields, path) or inside(head.fields, path)


def _first(head: Head, name: str, paths: Sequence[str]) -> str:
    values = [cast(found, BY_NAME[name], None) for path in paths if (found := _found(head, path))]
    return "" if not values else values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"


def _answer(head: Head) -> dict[str, str]:
    """The answer's message, from the body that is kept in `response`; `{}` is kept where bodies are not."""
    found = find(head.fields, "response")
    if found is None:
        return {}
    text = found.text
    body = f"CASE WHEN json_valid({text}) THEN {text} END"
    message = f"json_extract({body}, '$.choices[0].message')"
    whole = f"CASE WHEN {text} NOT IN ('{{}}', '', 'null') THEN {text} END"
    return {
        "output": f"coalesce(CAST({message} AS VARCHAR), {whole})",
        "finish_reason": f"json_extract_string({body}, '$.choices[0].finish_reason')",
    }


def _times(head: Head) -> dict[str, str]:
    start, end, first = (_moment(head, name) for name in ("startTime", "endTime", "completionStartTime"))
    found: dict[str, str] = {}
    own = [
        number for path, scale in (("request_duration_ms", 1), ("response_time", 1000)) if (number := _number(head, path, scale))
    ]
    if start and end:
        own.append(_between(start, end))
    if own:
        found["latency_ms"] = own[0] if len(own) == 1 else f"coalesce({', '.join(own)})"
    if start and end and first:
        found["ttft_ms"] = f"CASE WHEN {first} < {end} THEN {_between(start, first)} END"
    return found


def _moment(head: Head, path: str) -> str:
    found = find(head.fields, path)
    return f"({timestamp(found, None)})" if found else ""


def _between(start: str, end: str) -> str:
    return f"CASE WHEN {end} >= {start} THEN (epoch_us({end}) - epoch_us({start})) / 1000.0::DOUBLE END"


def _number(head: Head, path: str, scale: int) -> str:
    found = find(head.fields, path)
    return f"({cast(found, BY_NAME['latency_ms'], None)}) * {scale}" if found else ""


def _failure(head: Head) -> dict[str, str]:
    """The class of the error where the call failed; `failure` where no class is told."""
    status = find(head.fields, "status")
    if status is None:
        return {}
    classes = [
        found.text
        for path in ("error_information.error_class", "metadata.error_information.error_class")
        if (found := _found(head, path))
    ]
    told = ", ".join([*(f"nullif({sql}, '')" for sql in classes), "'failure'"])
    return {"error_type": f"CASE WHEN {status.text} = 'failure' THEN coalesce({told}) END"}


def _aside(head: Head) -> dict[str, str]:
    """What is no call of a model for text, by the note that says so."""
    rows: dict[str, tuple[str, Callable[[str], str]]] = {
        "other-events": ("call_type", lambda text: f"regexp_matches({text}, {literal(_OTHERS)})"),
        "gateway-cache": ("cache_hit", lambda text: f"lower(CAST({text} AS VARCHAR)) = 'true'"),
    }
    return {code: sql(found.text) for code, (path, sql) in rows.items() if (found := find(head.fields, path))}
