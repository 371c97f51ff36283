"""`policyroute serve` as a process: every surface, plain and streamed, under three WSGI servers, against a provider on loopback."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.gateway_support import POLICY, TEXT, Gateway, Provider, events, provider, serving

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
HELLO = [{"role": "user", "content": "Capital of France?"}]
ALL = {
    "POLICYROUTE_MINI_APIS": "chat,responses,messages,embeddings",
    "POLICYROUTE_STRONG_APIS": "chat,responses,messages,embeddings",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module", params=["serve", "gunicorn", "waitress"])
def gateway(request: pytest.FixtureRequest, upstream: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    policy = POLICY.format(url=upstream.url, more="")
    with serving(policy, tmp_path_factory.mktemp(request.param), env=ALL, server=request.param) as running:
        yield running


def test_chat(gateway: Gateway, upstream: Provider) -> None:
    body = b'{"model": "auto", "messages": [{"role": "user", "content": "Capital of France?"}], "temperature": 0.50, "seed": 12345678901234567890123, "odd": null}'
    status, headers, answer = gateway.post(CHAT, body)
    assert (status, json.loads(answer)["choices"][0]["message"]["content"]) == (200, TEXT)
    assert (headers["x-policyroute-rule"], headers["x-policyroute-target"], headers["x-policyroute-attempts"]) == (
        "otherwise",
        "mini",
        "1",
    )
    assert headers["x-request-id"] == "req_upstream"
    assert headers["x-policyroute-cost-usd"] == "0.00000585"  # 11 tokens in (4 of them cached, which has no rate here), 7 out
    path, _, fields = upstream.seen[-1]
    assert path == CHAT
    assert fields == {"model": "gpt-4o-mini", "messages": HELLO, "temperature": 0.5, "seed": 12345678901234567890123, "odd": None}


def test_the_rule_decides_the_model(gateway: Gateway) -> None:
    urgent = {"model": "auto", "messages": [{"role": "user", "content": "We have an outage"}]}
    assert gateway.post(CHAT, urgent)[1]["x-policyroute-target"] == "mini"
    _, headers, _ = gateway.post(CHAT, urgent, {"x-user-plan": "pro"})
    assert (headers["x-policyroute-rule"], headers["x-policyroute-target"]) == ("incident", "strong")


def test_chat_streamed_without_the_usage_that_nobody_asked_for(gateway: Gateway, upstream: Provider) -> None:
    status, headers, body = gateway.post(CHAT, {"model": "auto", "messages": HELLO, "stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    assert upstream.seen[-1][2]["stream_options"] == {"include_usage": True}
    found = events(body)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in found) == TEXT
    assert all(event["choices"] for event in found) and body.endswith(b"data: [DONE]\n\n")


def test_chat_streamed_with_usage(gateway: Gateway) -> None:
    asked = {"model": "auto", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    assert events(gateway.post(CHAT, asked)[2])[-1]["usage"]["total_tokens"] == 18


@pytest.mark.parametrize("stream", [False, True])
def test_messages(gateway: Gateway, upstream: Provider, stream: bool) -> None:
    asked = {"model": "auto", "max_tokens": 64, "messages": HELLO, "stream": stream}
    status, headers, body = gateway.post(f"{MESSAGES}?beta=true", asked, {"anthropic-version": "2023-06-01", "anthropic-beta": "x"})
    assert status == 200 and headers["x-policyroute-target"] == "mini"
    path, sent, fields = upstream.seen[-1]
    assert (path, sent["anthropic-version"], sent["anthropic-beta"], fields["model"]) == (
        "/v1/messages?beta=true",
        "2023-06-01",
        "x",
        "gpt-4o-mini",
    )
    text = (
        "".join(event.get("delta", {}).get("text", "") for event in events(body))
        if stream
        else json.loads(body)["content"][0]["text"]
    )
    assert text == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_responses(gateway: Gateway, stream: bool) -> None:
    status, headers, body = gateway.post(RESPONSES, {"model": "auto", "input": "Capital of France?", "stream": stream})
    assert status == 200 and headers["x-policyroute-target"] == "mini"
    text = (
        "".join(event["delta"] for event in events(body) if event["type"].endswith("text.delta"))
        if stream
        else json.loads(body)["output"][0]["content"][0]["text"]
    )
    assert text == TEXT


def test_a_refusal_is_the_clients_to_see_once(gateway: Gateway) -> None:
    long = {"model": "auto", "messages": [{"role": "user", "content": "word " * 30_000}]}
    status, headers, body = gateway.post(CHAT, long)
    assert (status, headers["x-should-retry"]) == (400, "false")
    assert json.loads(body)["error"]["message"] == "Too long. Please shorten it."
    status, _, body = gateway.post(MESSAGES, long)
    assert (status, json.loads(body)["type"], json.loads(body)["error"]["type"]) == (400, "error", "invalid_request_error")


def test_dry_run(gateway: Gateway, upstream: Provider) -> None:
    before = len(upstream.seen)
    asked = {"model": "auto", "messages": [{"role": "user", "content": "We have an outage"}], "max_tokens": 100}
    found = json.loads(gateway.post("/v1/route", asked)[2])
    assert found["decision"]["rule"] == "otherwise" and found["decision"]["chain"] == ["mini", "strong"]
    assert [(rule["rule"], rule["takes"], rule["why_not"]) for rule in found["tried"]][1] == (
        "incident",
        False,
        ["plan is pro (plan is free)"],
    )
    assert found["models"]["strong"]["cost_usd"] == {"least": "0.0000275", "most": "0.0010275"}
    assert len(upstream.seen) == before


def test_fixed_pages(gateway: Gateway) -> None:
    assert gateway.get("/")[0] == 200
    assert json.loads(gateway.get("/healthz")[2])["status"] == "ok"
    assert json.loads(gateway.get("/readyz")[2])["ready"] is True
    assert b"policyroute_decisions_total" in gateway.get("/metrics")[2]
    assert {model["id"] for model in json.loads(gateway.get("/v1/models")[2])["data"]} >= {"auto", "mini", "strong"}
    assert "has_more" in json.loads(gateway.get("/v1/models", {"anthropic-version": "2023-06-01"})[2])
    assert gateway.get("/v1/models/mini")[0] == 200 and gateway.get("/v1/models/none")[0] == 404
    assert gateway.get("/nowhere")[0] == 404 and gateway.get(CHAT)[0] in (404, 405)


def test_embeddings_pass_through(gateway: Gateway, upstream: Provider) -> None:
    status, _, body = gateway.post("/v1/embeddings", {"model": "mini", "input": "x"})
    assert status == 200 and json.loads(body)["data"][0]["embedding"] == [0.5, 0.25]
    assert upstream.seen[-1][0] == "/v1/embeddings"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"model": ' + b"[" * 100_000])
def test_bad_bodies_are_the_clients_fault(gateway: Gateway, body: bytes) -> None:
    status, _, answer = gateway.post(CHAT, body)
    assert status == 400 and json.loads(answer)["error"]["type"] == "invalid_request_error"


def test_a_connection_outlives_an_error(gateway: Gateway) -> None:
    """The body comes after its head. A server that has answered by then closes the connection under the client's next request."""
    body = json.dumps({"model": "auto", "messages": HELLO}).encode()
    with closing(http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=30)) as connection:
        for path, status in (("/v1/nowhere", 404), ("/healthz", 405), ("/v1/nowhere", 404), (CHAT, 200)):
            connection.putrequest("POST", path)
            connection.putheader("content-length", str(len(body)))
            connection.endheaders()
            time.sleep(0.1)
            connection.send(body)
            with connection.getresponse() as answer:
                assert answer.read() and answer.status == status


def test_a_new_policy_is_served_and_a_bad_one_is_not(upstream: Provider, tmp_path: Path) -> None:
    policy = POLICY.format(url=upstream.url, more="")
    asked = {"model": "auto", "messages": HELLO}
    with serving(policy, tmp_path, "--journal", "off") as gateway:
        file = tmp_path / "desk.route"
        first = json.loads(gateway.get("/readyz")[2])["digest"]
        file.write_text(policy.replace("then cheap }", "then best }").replace("-> mini, strong", "-> strong"))
        _until(lambda: json.loads(gateway.get("/readyz")[2])["digest"] != first)
        assert gateway.post(CHAT, asked)[1]["x-policyroute-target"] == "strong"
        file.write_text(policy.replace("then cheap }", "then cheep }"))
        _until(lambda: json.loads(gateway.get("/healthz")[2])["status"] == "degraded")
        health = json.loads(gateway.get("/healthz")[2])
        assert "no model or tier is named `cheep`" in health["reload"]["failed"] and "desk.route:12:" in health["reload"]["failed"]
        assert gateway.post(CHAT, asked)[1]["x-policyroute-target"] == "strong"
        assert b"policyroute_reload_failures_total" in gateway.get("/metrics")[2]
        file.write_text(policy.replace("expect otherwise", "expect incident"))  # loads, and its own test fails
        _until(lambda: "tests fail" in json.loads(gateway.get("/healthz")[2]).get("reload", {}).get("failed", ""))
        file.write_text(policy)
        _until(lambda: json.loads(gateway.get("/healthz")[2])["status"] == "ok")
        assert gateway.post(CHAT, asked)[1]["x-policyroute-target"] == "mini"
        os.kill(gateway.process.pid, signal.SIGHUP)
        time.sleep(0.2)
        assert gateway.get("/readyz")[0] == 200
        assert gateway.stop() == 0


def _until(holds: object, within: float = 20.0) -> None:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if holds():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to be in time")
