"""Weak answers: what is weak, who is asked then, and what both answers cost, in every API, streamed and not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.language.load import check_text, load
from policyroute.prices.catalog import complete, load_catalog
from policyroute.proxy.weak import Spoken, Weak, asked_schema, spoken
from policyroute.replay.options import Options
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader
from tests.gateway_support import Gateway, Provider, events, provider, serving

POLICY = """edition 1
policy weak
signal region : us | eu = us  from header "x-region"
words unsure = "i'm not sure", "cannot determine"
model mini   {{ provider openai  id "gpt-4o-mini"  url "{weak}"    in $1  out $2   context 128k  can tools, images, json }}
model strong {{ provider openai  id "gpt-4o"       url "{strong}"  in $5  out $20  context 128k  can tools, images, json }}
model best   {{ provider openai  id "gpt-4.1"      url "{strong}"  in $9  out $30  context 128k  can tools, images, json }}
tier cheap = mini
tier good  = strong
tier top   = best
order cheap < good < top
forbid strong when region is eu
rule hard {{ when tokens > 2k then good }}
otherwise {{ then cheap }}
escalate cheap, good {{ {buffer}when answer has unsure or answer is empty or answer is truncated or answer is not json and json  then up }}
"""
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/responses": {"input": "What is the capital of France?"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 100},
}
APIS = {f"POLICYROUTE_{name}_APIS": "chat,responses,messages" for name in ("MINI", "STRONG", "BEST")}


@pytest.fixture
def upstreams() -> Iterator[tuple[Provider, Provider]]:
    with provider("I'm not sure, sorry.") as weak, provider("It is Paris.") as strong:
        yield weak, strong


def policy_of(weak: Provider, strong: Provider, buffer: str = "") -> str:
    return POLICY.format(weak=weak.url, strong=strong.url, buffer=buffer)


def rows(gateway: Gateway) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT * FROM read_parquet('{gateway.journal}/*.parquet', union_by_name = true) ORDER BY ts")
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_a_weak_answer_is_asked_again_in_every_api(upstreams: tuple[Provider, Provider], tmp_path: Path) -> None:
    with serving(policy_of(*upstreams), tmp_path, "--no-tests", env=APIS) as gateway:
        for path, body in BODIES.items():
            status, headers, answer = gateway.post(path, {"model": "auto", **body})
            assert status == 200 and b"Paris" in answer and b"not sure" not in answer
            assert (headers["x-policyroute-target"], headers["x-policyroute-escalated-from"]) == ("strong", "mini")
            assert headers["x-policyroute-attempts"] == "2"
        assert gateway.stop() == 0
    found = rows(gateway)
    assert len(found) == 3
    for row in found:
        assert (row["escalated_from"], row["served_model"], row["decision_chain"]) == ("mini", "strong", "mini")
        tokens = row["escalated_input_tokens"] * 1 + row["escalated_output_tokens"] * 2
        assert row["escalated_cost_usd"] == Decimal(tokens) / 10**6 > 0
        assert row["cost_usd"] == Decimal(row["input_tokens"] * 5 + row["output_tokens"] * 20) / 10**6
        assert [attempt["result"] for attempt in json.loads(row["attempts"])] == ["weak", "answered"]
    catalog = load_catalog()
    policy = complete(load(tmp_path / "desk.route"), catalog)[0]
    replayed = result(simulate(policy, [gateway.journal], catalog, Options(prompt_cache="held")))
    paid = sum(row["cost_usd"] + row["escalated_cost_usd"] for row in found)
    assert Decimal(replayed["headline"]["routed_usd"]) == Decimal(replayed["headline"]["baseline_usd"]) == paid
    assert replayed["headline"]["changed"] == 0


def test_limits_and_failures_have_the_last_word(upstreams: tuple[Provider, Provider], tmp_path: Path) -> None:
    """Where the next tier is forbidden, or fails, the first answer is served, and the journal has one answer's cost."""
    weak, strong = upstreams
    text = policy_of(weak, strong).replace(f'id "gpt-4o"       url "{strong.url}"', 'id "gpt-4o"       url "http://127.0.0.1:9/v1"')
    body = {"model": "auto", **BODIES["/v1/chat/completions"]}
    with serving(text, tmp_path, "--no-tests", env=APIS) as gateway:
        for headers in ({"x-region": "eu"}, {}):
            status, told, answer = gateway.post("/v1/chat/completions", body, headers)
            assert status == 200 and b"not sure" in answer
            assert told["x-policyroute-target"] == "mini" and "x-policyroute-escalated-from" not in told
        assert gateway.stop() == 0
    assert [row["escalated_from"] for row in rows(gateway)] == [None, None]
    assert all(row["verdict"] == "answered" and row["cost_usd"] > 0 for row in rows(gateway))


@pytest.mark.parametrize("path", BODIES)
def test_streams_are_tested_where_they_are_held_back(path: str, upstreams: tuple[Provider, Provider], tmp_path: Path) -> None:
    body = {"model": "auto", "stream": True, **BODIES[path]}
    plain, held = tmp_path / "plain", tmp_path / "held"
    plain.mkdir(), held.mkdir()
    with serving(policy_of(*upstreams), plain, "--no-tests", env=APIS) as gateway:
        status, _, answer = gateway.post(path, body)
        assert status == 200 and b"not" in answer and b"Paris" not in answer
    with serving(policy_of(*upstreams, buffer="buffer "), held, "--no-tests", env=APIS) as gateway:
        status, headers, answer = gateway.post(path, body)
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        assert b"Paris" in answer and b"not sure" not in answer
        assert events(answer)
        status, _, answer = gateway.post(path, body | {"model": "auto"}, {"x-region": "eu"})
        assert status == 200 and b"sure" in answer  # nobody else may be asked: the held stream is sent
        assert gateway.stop() == 0
    assert [row["escalated_from"] for row in rows(gateway)] == ["mini", None]


def test_json_that_was_asked_for(upstreams: tuple[Provider, Provider], tmp_path: Path) -> None:
    """An answer that is no JSON of the asked schema goes up; one that is, or for which none was asked, doesn't."""
    weak, strong = upstreams
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    asked = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    body = {"model": "auto", **BODIES["/v1/chat/completions"], "response_format": asked}
    with serving(policy_of(weak, strong), tmp_path, "--no-tests", env=APIS) as gateway:
        for text, target in (
            ('{"city": "Paris"}', "mini"),
            ('{"town": "Paris"}', "strong"),
            ('```json\n{"city": "P"}\n```', "strong"),
        ):
            weak.text = text
            assert gateway.post("/v1/chat/completions", body)[1]["x-policyroute-target"] == target
        weak.text = "It is Paris."
        assert gateway.post("/v1/chat/completions", {"model": "auto", "messages": MESSAGES})[1]["x-policyroute-target"] == "mini"


# -- what is weak --------------------------------------------------------------------------------------------------------

CHECKED = check_text(
    'edition 1\npolicy w\nwords unsure = "not sure"\nmodel a { id "gpt-4o-mini" }\nmodel b { id "gpt-4o" }\ntier low = a\ntier high = b\n'
    "order low < high\notherwise { then low }\nescalate low { when CONDITION then up }\n".replace("CONDITION", "answer is empty")
)


def weak_by(condition: str, answer: Spoken, schema: dict[str, Any] | None = None) -> bool:
    text = CHECKED.sources[0].text.replace("answer is empty", condition)
    policy = check_text(text).policy
    return Weak(policy).judge(policy.escalations[0], answer, Reader(policy)(Facts.of_body({"messages": MESSAGES})), schema)


@pytest.mark.parametrize(
    ("condition", "text", "calls", "reason", "weak"),
    [
        ("answer is empty", " \n", False, "stop", True),
        ("answer is empty", "", True, "tool_calls", False),
        ("answer is empty", "x", False, "stop", False),
        ("answer is truncated", "x", False, "length", True),
        ("answer is truncated", "x", False, "max_tokens", True),
        ("answer is truncated", "x", False, "end_turn", False),
        ("answer has unsure", "I am NOT SURE.", False, "stop", True),
        ("answer has unsure", "I am nots sure.", False, "stop", False),
        ("answer is not json", "[1]", False, "stop", False),
        ("answer is not json", "[1", False, "stop", True),
        ("answer is not json and tools > 0", "[1", False, "stop", False),
        ("answer is in_error or answer is empty", "", False, "stop", True),
    ],
)  # fmt: skip
def test_conditions(condition: str, text: str, calls: bool, reason: str, weak: bool) -> None:
    if "in_error" in condition:
        assert check_text(CHECKED.sources[0].text.replace("answer is empty", condition)).failed
        return
    assert weak_by(condition, Spoken(text, calls, reason)) == weak


@given(st.text(max_size=60), st.booleans())
def test_the_three_shapes_say_the_same(text: str, calls: bool) -> None:
    call: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = {"choices": [{"message": {"role": "assistant", "content": text, **({"tool_calls": [call]} if calls else {})}}]}
    blocks = [{"type": "text", "text": text}, *([{"type": "tool_use", "id": "c", "name": "f", "input": {}}] if calls else [])]
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": text}]},
        *([{"type": "function_call", "name": "f", "arguments": "{}"}] if calls else []),
    ]
    assert (
        spoken(chat, "stop")
        == spoken({"content": blocks}, "stop")
        == spoken({"output": output}, "stop")
        == Spoken(text, calls, "stop")
    )


def test_the_schema_that_is_asked_for() -> None:
    schema = {"type": "object"}
    assert asked_schema({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}) == schema
    assert asked_schema({"text": {"format": {"type": "json_schema", "schema": schema}}}) == schema
    assert asked_schema({"output_config": {"format": {"type": "json_schema", "schema": schema}}}) == schema
    assert asked_schema({"response_format": {"type": "json_object"}}) is None and asked_schema({}) is None
    assert weak_by("answer is not json", Spoken("[]", False, "stop"), schema)
    assert not weak_by("answer is not json", Spoken("[]", False, "stop"), {"type": 7})
