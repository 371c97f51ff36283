"""Bodies of requests and answers, and their `usage`, as canonical columns: OpenAI Chat and Responses, Anthropic Messages,
Bedrock Converse.

`input_tokens` becomes the total. OpenAI's counts are totals; Anthropic's and Bedrock's leave out what was read from a cache and
written to it, so these are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyroute.replay.traces import chat
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.values import known, listed, mapping, text, truth, whole

REQUEST = (
    "model", "messages", "input", "prompt", "instructions", "system", "tools", "response_format", "stream", "max_completion_tokens",
    "max_output_tokens", "max_tokens", "toolConfig", "inferenceConfig",
)  # fmt: skip


def asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a request body tells: `messages`, `tools`, `response_format`, `max_output_tokens`, `stream`."""
    limits = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    limit = next((found for key in limits if (found := whole(body.get(key))) is not None), None)
    messages = prompt(body)
    converse = mapping(body.get("inferenceConfig"))
    return known({
        "messages": dumps(messages) if messages is not None else None,
        "tools": chat.tools(body.get("tools", mapping(body.get("toolConfig")).get("tools"))),
        "response_format": _format(body),
        "max_output_tokens": whole(converse.get("maxTokens")) if limit is None else limit,
        "stream": truth(body.get("stream")),
    })  # fmt: skip


def prompt(body: Mapping[str, Any]) -> list[Any] | None:
    """The messages of a request body, the system's first; None where it holds none."""
    given = next((body[key] for key in ("messages", "input", "prompt") if body.get(key) is not None), None)
    if given is None:
        return None
    if isinstance(given, str):
        messages: list[Any] = [{"role": "user", "content": given}]
    elif "input" in body and "messages" not in body:
        messages = chat.of_items(given)
    elif is_converse(body):
        return [*_converse_system(body), *chat.of_blocks(given)]
    else:
        messages = listed(given)
    first = [{"role": "system", "content": body[key]} for key in ("instructions", "system") if body.get(key)]
    return [*first, *messages]


def is_converse(body: Mapping[str, Any]) -> bool:
    """Whether the body is Bedrock Converse's: its blocks have no `type`."""
    blocks = [
        block
        for message in listed(body.get("messages"))
        for block in listed(mapping(message).get("content"))
        if isinstance(block, dict)
    ]
    return bool(blocks) and not any("type" in block for block in blocks)


def _converse_system(body: Mapping[str, Any]) -> list[Any]:
    texts = [
        block["text"] for block in listed(body.get("system")) if isinstance(block, dict) and isinstance(block.get("text"), str)
    ]
    return [{"role": "system", "content": "\n".join(texts)}] if texts else []


def _format(body: Mapping[str, Any]) -> str | None:
    form = (
        body.get("response_format") or mapping(body.get("text")).get("format") or mapping(body.get("output_config")).get("format")
    )
    return dumps(form) if form else None


# -- answers -----------------------------------------------------------------------------------------------------------


def answered(body: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer's body tells: `output`, `finish_reason`, `response_model`, `service_tier`, and the tokens of its usage."""
    message, reason = _answer(body)
    error = mapping(body.get("error"))
    return known({
        "output": dumps(message) if message is not None else None,
        "finish_reason": text(reason),
        "response_model": text(body.get("model")),
        "service_tier": text(body.get("service_tier")) or text(mapping(body.get("usage")).get("service_tier")),
        "error_type": text(error.get("type")) or text(error.get("code")),
        **tokens(mapping(body.get("usage"))),
    })  # fmt: skip


def _answer(body: Mapping[str, Any]) -> tuple[Any, object]:
    """The answer's message and why it ended."""
    choices = listed(body.get("choices"))
    if choices and isinstance(choices[0], dict):
        message = choices[0].get("message", choices[0].get("text"))
        return message, choices[0].get("finish_reason")
    output = body.get("output")
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        messages = chat.of_blocks([output["message"]])
        return (messages[0] if messages else None), body.get("stopReason")
    if isinstance(output, list):
        messages = chat.of_items(output)
        why = mapping(body.get("incomplete_details")).get("reason") or body.get("status")
        return (messages[-1] if messages else None), why
    if isinstance(body.get("content"), list):
        return {"role": "assistant", "content": body["content"]}, body.get("stop_reason")
    return None, None


# -- usage -------------------------------------------------------------------------------------------------------------


def tokens(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The token columns of a provider's `usage`, whoever wrote it; what it doesn't tell is left out."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _openai(usage, "prompt_tokens", "completion_tokens")
    if "inputTokens" in usage or "outputTokens" in usage:
        write = whole(usage.get("cacheWriteInputTokens", usage.get("cacheWriteInputTokenCount")))
        read = whole(usage.get("cacheReadInputTokens", usage.get("cacheReadInputTokenCount")))
        return beside(usage.get("inputTokens"), usage.get("outputTokens"), read, write)
    if {"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"} & usage.keys():
        return _anthropic(usage)
    return _openai(usage, "input_tokens", "output_tokens")


def _openai(usage: Mapping[str, Any], given: str, made: str) -> dict[str, Any]:
    inputs, outputs = mapping(usage.get(f"{given}_details")), mapping(usage.get(f"{made}_details"))
    return known({
        "input_tokens": whole(usage.get(given)),
        "cached_tokens": whole(inputs.get("cached_tokens")),
        "cache_write_5m_tokens": whole(inputs.get("cache_write_tokens")),
        "output_tokens": whole(usage.get(made)),
        "reasoning_tokens": whole(outputs.get("reasoning_tokens")),
    })  # fmt: skip


def _anthropic(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The two lifetimes where they are told apart, else all writes as five minutes, Anthropic's default."""
    written, parts = whole(usage.get("cache_creation_input_tokens")), mapping(usage.get("cache_creation"))
    short, long = whole(parts.get("ephemeral_5m_input_tokens")), whole(parts.get("ephemeral_1h_input_tokens"))
    if short is None and long is None:
        short = written
    found = beside(usage.get("input_tokens"), usage.get("output_tokens"), whole(usage.get("cache_read_input_tokens")), short, long)
    thinking = whole(mapping(usage.get("output_tokens_details")).get("thinking_tokens"))
    return found | known({"reasoning_tokens": thinking})


def beside(fresh: object, output: object, read: int | None, short: int | None = None, long: int | None = None) -> dict[str, Any]:
    """The columns of counts where the cache's parts lie beside the input: the total is their sum."""
    count = whole(fresh)
    total = None if count is None else count + (read or 0) + (short or 0) + (long or 0)
    return known({
        "input_tokens": total, "cached_tokens": read, "cache_write_5m_tokens": short, "cache_write_1h_tokens": long,
        "output_tokens": whole(output),
    })  # fmt: skip


def within(total: object, output: object, read: int | None, short: int | None = None) -> tuple[dict[str, Any], bool]:
    """The columns of counts whose input should be the total; where the cache's parts exceed it, it can't be, and they are
    added. Also tells whether that was so."""
    count = whole(total)
    if count is not None and (read or 0) + (short or 0) > count:
        return beside(count, output, read, short), True
    return (
        known({"input_tokens": count, "cached_tokens": read, "cache_write_5m_tokens": short, "output_tokens": whole(output)}),
        False,
    )
