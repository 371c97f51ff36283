"""Requests across APIs: what isn't listed as lost survives, what is listed is lost, and what can't be said is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.proxy import convert
from policyroute.proxy.convert import ConversionError, loss_table
from policyroute.proxy.convert.loss_table import ANSWERED_REASONING, ANSWERED_TIER, CITATIONS, SIGNATURES, STOP_SEQUENCE
from tests.convert_support import APIS, PAIRS, PNG, compact, conversations, joined, request, steps_of, toolboxes, tools_of

pytest.importorskip("linguafranca", reason="the extra `convert` is not installed")

HI = [("user", [("text", "hi")])]
TOOL = [("look", "looks", {"type": "object", "properties": {"zone": {"type": "string"}, "area": {"type": "string"}}})]
IN_ANSWERS = {ANSWERED_REASONING, ANSWERED_TIER, CITATIONS, SIGNATURES, STOP_SEQUENCE}


def converted(client: str, upstream: str, fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(convert.request(client, upstream, fields).body)  # type: ignore[arg-type]
    return found


def written(steps: list[Any]) -> list[Any]:
    """Steps with the arguments of calls as text, whose order counts."""
    return joined([(*step[:3], compact(step[3])) if step[0] == "call" else step for step in steps])


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@settings(max_examples=40, deadline=None)
@given(steps=conversations(), tools=toolboxes())
def test_a_conversation_survives(client: str, upstream: str, steps: list[Any], tools: list[Any]) -> None:
    fields = request(client, steps, tools)
    made = converted(client, upstream, fields)
    assert steps_of(upstream, made) == written(steps)
    assert tools_of(upstream, made) == [(name, said, compact(schema)) for name, said, schema in tools]
    back = converted(upstream, client, made)
    assert steps_of(client, back) == written(steps)
    assert tools_of(client, back) == tools_of(upstream, made)


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@given(steps=conversations())
@settings(max_examples=15, deadline=None)
def test_a_plain_request_loses_nothing(client: str, upstream: str, steps: list[Any]) -> None:
    found = convert.request(client, upstream, request(client, steps, TOOL))  # type: ignore[arg-type]
    assert set(found.losses) <= {loss_table.BORDERS}


LIMIT = {"chat": "max_completion_tokens", "responses": "max_output_tokens", "messages": "max_tokens"}
SCHEMA = {"type": "object", "properties": {"why": {"type": "string"}, "answer": {"type": "string"}}}
SETTINGS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("chat", {"max_tokens": 77}, "messages", {"max_tokens": 77}),
    ("chat", {"max_completion_tokens": 77, "max_tokens": 5}, "responses", {"max_output_tokens": 77}),
    ("messages", {"max_tokens": 77}, "chat", {"max_completion_tokens": 77}),
    ("messages", {"max_tokens": 3}, "responses", {"max_output_tokens": 16}),
    ("responses", {"max_output_tokens": 77}, "messages", {"max_tokens": 77}),
    ("chat", {}, "messages", {"max_tokens": 8192}),
    ("chat", {"reasoning_effort": "high"}, "messages", {"max_tokens": 32000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ("responses", {"reasoning": {"effort": "minimal"}}, "messages", {"output_config": {"effort": "low"}}),
    ("chat", {"reasoning_effort": "none"}, "messages", {"thinking": None, "output_config": None}),
    ("chat", {"reasoning_effort": "low"}, "responses", {"reasoning": {"effort": "low"}}),
    ("responses", {"reasoning": {"effort": "low", "summary": "auto"}}, "chat", {"reasoning_effort": "low", "reasoning": None}),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "chat", {"reasoning_effort": "low", "reasoning": None}),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 30000}}, "responses", {"reasoning": {"effort": "high"}}),
    ("messages", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "chat", {"reasoning_effort": "xhigh"}),
    ("messages", {"thinking": {"type": "disabled"}}, "chat", {"reasoning_effort": None}),
    ("chat", {"stop": "END"}, "messages", {"stop_sequences": ["END"]}),
    ("chat", {"stop": ["A", "\n"]}, "messages", {"stop_sequences": ["A"]}),
    ("messages", {"stop_sequences": ["A", "B"]}, "chat", {"stop": ["A", "B"]}),
    ("chat", {"temperature": 1.5}, "messages", {"temperature": 1}),
    ("chat", {"temperature": 0.5, "top_p": 0.9}, "messages", {"temperature": 0.5, "top_p": None}),
    ("chat", {"top_p": 0.9}, "messages", {"top_p": 0.9}),
    ("chat", {"temperature": 0.5, "reasoning_effort": "low"}, "messages", {"temperature": None}),
    ("messages", {"temperature": 0.5, "top_p": 0.9}, "chat", {"temperature": 0.5, "top_p": 0.9}),
    ("responses", {"temperature": 1.5}, "chat", {"temperature": 1.5}),
    ("chat", {"top_k": 5}, "messages", {"top_k": 5}),
    ("chat", {"user": "ann"}, "messages", {"metadata": {"user_id": "ann"}}),
    ("responses", {"safety_identifier": "ann"}, "messages", {"metadata": {"user_id": "ann"}}),
    ("messages", {"metadata": {"user_id": "ann"}}, "chat", {"user": "ann", "metadata": None}),
    ("messages", {"metadata": {"user_id": "a" * 65}}, "responses", {"user": "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"}),
    ("chat", {"metadata": {"a": "b"}, "user": "ann"}, "responses", {"metadata": {"a": "b"}, "user": "ann"}),
    ("chat", {"service_tier": "flex", "store": True}, "responses", {"service_tier": "flex", "store": True}),
    ("chat", {}, "responses", {"store": False}),
    ("messages", {}, "responses", {"store": False}),
    ("responses", {"store": True}, "chat", {"store": True}),
    ("chat", {"verbosity": "low", "prompt_cache_key": "k"}, "responses", {"text": {"verbosity": "low"}, "prompt_cache_key": "k"}),
    ("chat", {"stream": True, "stream_options": {"include_usage": True}}, "messages", {"stream": True, "stream_options": None}),
    ("chat", {"stream": True}, "responses", {"stream": True, "stream_options": None}),
    ("chat", {"cache_control": {"type": "ephemeral"}}, "messages", {"cache_control": {"type": "ephemeral"}}),
    ("chat", {}, "messages", {"cache_control": None}),
    ("responses", {}, "messages", {"cache_control": None}),
    ("chat", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}}, "messages",
     {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ("chat", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}}, "responses",
     {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}}),
    ("messages", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "chat",
     {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}}),
    ("messages", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "responses",
     {"text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA}}}),
    ("responses", {"text": {"format": {"type": "json_object"}}}, "chat", {"response_format": {"type": "json_object"}}),
    ("chat", {"response_format": {"type": "text"}}, "messages", {"output_config": None}),
]  # fmt: skip


@pytest.mark.parametrize(("client", "given_", "upstream", "wanted"), SETTINGS)
def test_settings(client: str, given_: dict[str, Any], upstream: str, wanted: dict[str, Any]) -> None:
    made = converted(client, upstream, request(client, HI, **given_))
    assert {name: made.get(name) for name in wanted} == wanted
    assert all(compact(made.get(name)) == compact(value) for name, value in wanted.items())


CHOICES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("chat", {"tool_choice": "required"}, "messages", {"tool_choice": {"type": "any"}}),
    ("chat", {"tool_choice": "none", "parallel_tool_calls": False}, "messages", {"tool_choice": {"type": "none"}}),
    ("chat", {"tool_choice": {"type": "function", "function": {"name": "look"}}}, "messages", {"tool_choice": {"type": "tool", "name": "look"}}),
    ("chat", {"tool_choice": {"type": "function", "function": {"name": "look"}}}, "responses", {"tool_choice": {"type": "function", "name": "look"}}),
    ("responses", {"tool_choice": {"type": "function", "name": "look"}}, "chat", {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
    ("chat", {"parallel_tool_calls": False}, "messages", {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
    ("responses", {"parallel_tool_calls": False}, "chat", {"parallel_tool_calls": False, "tool_choice": None}),
    ("messages", {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}, "chat", {"tool_choice": "required", "parallel_tool_calls": False}),
    ("messages", {"tool_choice": {"type": "tool", "name": "look"}}, "responses", {"tool_choice": {"type": "function", "name": "look"}}),
    ("responses", {"tool_choice": {"type": "web_search"}}, "messages", {"tool_choice": None}),
    ("chat", {"tool_choice": "required", "reasoning_effort": "high"}, "messages", {"thinking": None, "output_config": {"effort": "high"}}),
]  # fmt: skip


@pytest.mark.parametrize(("client", "given_", "upstream", "wanted"), CHOICES)
def test_tool_choice(client: str, given_: dict[str, Any], upstream: str, wanted: dict[str, Any]) -> None:
    made = converted(client, upstream, request(client, HI, TOOL, **given_))
    assert {name: made.get(name) for name in wanted} == wanted


def test_allowed_tools_are_those_that_are_offered() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}
    fields = request("responses", HI, [*TOOL, ("leap", "leaps", {"type": "object", "properties": {}})], tool_choice=allowed)
    made = converted("responses", "messages", fields)
    assert [tool["name"] for tool in made["tools"]] == ["look"] and made["tool_choice"] == {"type": "any"}
    nested = converted("responses", "chat", fields)["tool_choice"]["allowed_tools"]
    assert nested == {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]}


def test_the_instructions_go_first() -> None:
    fields = request("responses", [("system", "dev"), *HI], instructions="sys")
    assert steps_of("messages", converted("responses", "messages", fields)) == [("system", "sys\n\ndev"), *HI]
    assert converted("responses", "chat", fields)["messages"][0] == {"role": "system", "content": "sys\n\ndev"}


CALL = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "r"}


def anthropic(*messages: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "model": "auto",
        "max_tokens": 50,
        "messages": [{"role": role, "content": content} for role, content in messages],
        **more,
    }


def test_results_stand_right_after_their_calls() -> None:
    """OpenAI refuses a call whose result isn't next: texts around them are moved, as one message for each turn."""
    after = {"type": "text", "text": "after"}
    fields = anthropic(("user", "hi"), ("assistant", [CALL, after]), ("user", [{"type": "text", "text": "so"}, RESULT]))
    roles = [message["role"] for message in converted("messages", "chat", fields)["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]


def test_images_of_results() -> None:
    result = {
        **RESULT,
        "content": [
            {"type": "text", "text": "see"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
        ],
    }
    fields = anthropic(("user", "hi"), ("assistant", [CALL]), ("user", [result]))
    assert converted("messages", "chat", fields)["messages"][2:] == [
        {"role": "tool", "content": "see", "tool_call_id": "t1"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
    ]
    output = converted("messages", "responses", fields)["input"][2]["output"]
    assert output == [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": PNG, "detail": "auto"}]
    back = converted("responses", "messages", converted("messages", "responses", fields))
    assert back["messages"][2]["content"][0]["content"] == result["content"]


def test_files() -> None:
    pdf = {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    note = {"type": "document", "title": "n", "source": {"type": "text", "media_type": "text/plain", "data": "note"}}
    made = converted("messages", "chat", anthropic(("user", [pdf, note])))
    file = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}
    assert made["messages"][0]["content"] == [{"type": "file", "file": file}, {"type": "text", "text": "n\n\nnote"}]
    assert converted("chat", "messages", made)["messages"][0]["content"][0] == pdf
    assert converted("chat", "responses", made)["input"][0]["content"][0] == {"type": "input_file", **file}


def test_empty_content_is_nothing_that_an_api_refuses() -> None:
    messages = [("user", ""), ("assistant", ""), ("user", []), ("assistant", None), ("user", " \n"), ("user", "hi")]
    fields = {"model": "auto", "messages": [{"role": role, "content": content} for role, content in messages]}
    assert converted("chat", "messages", fields)["messages"] == [{"role": "user", "content": "hi"}]
    assert converted("chat", "responses", fields)["input"][-1]["content"] == "hi"


def test_what_a_provider_refuses_is_mended() -> None:
    identifier = "functions.look:0"
    fields = request(
        "chat",
        [*HI, ("call", identifier, "look", {}), ("result", identifier, "r"), ("assistant", "so "), *HI, ("assistant", "x \n")],
    )
    made = converted("chat", "messages", fields)["messages"]
    assert made[1]["content"][0]["id"] == made[2]["content"][0]["tool_use_id"] == "functions_look_0"
    assert made[3]["content"] == "so " and made[-1]["content"] == "x"
    long = request("messages", [*HI, ("call", "t" * 60, "look", {}), ("result", "t" * 60, "r")])
    kept = converted("messages", "chat", long)["messages"]
    assert kept[1]["tool_calls"][0]["id"] == kept[2]["tool_call_id"] and len(kept[2]["tool_call_id"]) <= 40


def test_arguments_are_kept_as_they_are() -> None:
    said = '{"z":1,"a":{"y":123456789012345678901234567890,"b":1.0}}'
    fields = request("chat", [*HI, ("call", "c1", "look", json.loads(said)), ("result", "c1", "r")])
    made = converted("chat", "messages", fields)
    assert compact(made["messages"][1]["content"][0]["input"]) == said
    fields["messages"][1]["tool_calls"][0]["function"]["arguments"] = "{bad"
    assert converted("chat", "messages", fields)["messages"][1]["content"][0]["input"] == {"malformed_arguments": "{bad"}
    fields["messages"][1]["tool_calls"][0]["function"]["arguments"] = ""
    assert converted("chat", "messages", fields)["messages"][1]["content"][0]["input"] == {}


def test_half_a_surrogate_pair_is_a_question_mark() -> None:
    made = converted("chat", "messages", request("chat", [("user", [("text", "a\ud83d😀")])]))
    assert made["messages"][0]["content"] == "a?😀"


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"n": 2}), ("chat", {"modalities": ["text", "audio"]}), ("chat", {"functions": [{"name": "f"}]}),
    ("chat", {"messages": [{"role": "function", "name": "f", "content": "x"}]}),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]}),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}),
    ("responses", {"previous_response_id": "resp_1"}), ("responses", {"conversation": "c"}), ("responses", {"prompt": {"id": "p"}}),
    ("responses", {"background": True}), ("responses", {"input": [{"type": "item_reference", "id": "i"}]}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]}),
]  # fmt: skip


@pytest.mark.parametrize(("client", "given_"), REFUSED)
def test_what_the_answer_needs_is_refused(client: str, given_: dict[str, Any]) -> None:
    for upstream in APIS:
        if upstream != client:
            with pytest.raises(ConversionError) as refused:
                convert.request(client, upstream, request(client, HI, **given_) | given_)  # type: ignore[arg-type]
            assert "hologram" not in str(refused.value)


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_json_is_converted_or_refused(client: str, upstream: str, data: st.DataObject) -> None:
    """Whatever a client sends in a member, the outcome is a body or a ConversionError."""
    fields = deepcopy(  # a request shares its tools with all others, and is changed here
        request(client, [("system", "s"), *HI, ("call", "c1", "look", {}), ("result", "c1", "r")], TOOL, **{LIMIT[client]: 9})
    )
    odd = (
        st.none()
        | st.booleans()
        | st.integers(-5, 5)
        | st.text(max_size=5)
        | st.just([])
        | st.just({})
        | st.just([None])
        | st.just([[{}]])
    )
    value: Any = fields
    while isinstance(value, (dict, list)) and value:
        place = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        if not isinstance(value[place], (dict, list)) or data.draw(st.booleans()):
            value[place] = data.draw(odd)
            break
        value = value[place]
    try:
        body = convert.request(client, upstream, fields).body  # type: ignore[arg-type]
    except ConversionError:
        return
    assert isinstance(json.loads(body), dict)


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_official_clients_would_send_it(client: str, upstream: str) -> None:
    """The parameter types of the official packages, in their own validation."""
    pydantic = pytest.importorskip("pydantic", reason="the official clients are not installed")
    path, name = {
        "chat": ("openai.types.chat.completion_create_params", "CompletionCreateParams"),
        "responses": ("openai.types.responses.response_create_params", "ResponseCreateParams"),
        "messages": ("anthropic.types.message_create_params", "MessageCreateParams"),
    }[upstream]
    adapter = pydantic.TypeAdapter(getattr(pytest.importorskip(path, reason="the official client is not installed"), name))
    steps = [
        ("system", "sys"),
        ("user", [("text", "a"), ("image", PNG)]),
        ("assistant", "b"),
        ("call", "c1", "look", {"z": 1}),
        ("result", "c1", "r"),
        *HI,
    ]
    for one, given_, other, _ in [*SETTINGS, *CHOICES, (client, {}, upstream, {})]:
        if (one, other) == (client, upstream):
            adapter.validate_python(converted(client, upstream, request(client, steps, TOOL, **given_)))
