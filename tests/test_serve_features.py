"""What is built around a call: keys, the answer cache, translation between APIs, a graceful end, the shared state of workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from tests.gateway_support import POLICY, ROOT, TEXT, Gateway, Provider, events, provider, serving

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
HELLO = [{"role": "user", "content": "Capital of France?"}]
URGENT = {"model": "auto", "messages": [{"role": "user", "content": "We have an outage"}]}
KEYS = """
[[key]]
name = "app"
sha256 = "{app}"
team = "support"
signals = {{ plan = "pro" }}

[[key]]
name = "intern"
sha256 = "{intern}"
signals = {{ plan = "free" }}
models = ["mini"]

[[key]]
name = "backend"
sha256 = "{backend}"
trusted = true
"""


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def keyed(upstream: Provider, tmp_path: Path) -> Iterator[Gateway]:
    hashes = {name: sha256(f"pr-{name}".encode()).hexdigest() for name in ("app", "intern", "backend")}
    (tmp_path / "keys.toml").write_text(KEYS.format(**hashes))
    (tmp_path / "keys.toml").chmod(0o600)
    with serving(POLICY.format(url=upstream.url, more=""), tmp_path, "--keys", "keys.toml", workers=2) as running:
        yield running


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer pr-{name}"}


def test_keys_say_who_calls(keyed: Gateway, upstream: Provider) -> None:
    assert keyed.post(CHAT, URGENT)[0] == keyed.post(CHAT, URGENT, {"x-api-key": "pr-nobody"})[0] == keyed.get("/metrics")[0] == 401
    assert keyed.get("/healthz")[0] == keyed.get("/readyz")[0] == 200
    assert keyed.post(CHAT, URGENT, key("app"))[1]["x-policyroute-rule"] == "incident"
    claimed = {"x-user-plan": "pro", "x-user-id": "someone"}
    assert keyed.post(CHAT, URGENT | {"metadata": {"plan": "pro"}}, key("intern") | claimed)[1]["x-policyroute-rule"] == "otherwise"
    assert keyed.post(CHAT, URGENT, key("backend") | claimed)[1]["x-policyroute-rule"] == "incident"
    status, headers, body = keyed.post(CHAT, {"model": "auto", "messages": HELLO}, key("intern"))
    assert (status, headers["x-policyroute-target"]) == (200, "mini")
    assert "authorization" not in upstream.seen[-1][1]  # a client's key goes nowhere
    assert b"pr-intern" not in body
    assert b"policyroute_decisions_total" in keyed.get("/metrics", key("app"))[2]
    keyed.stop()
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT caller, user_plan, team FROM read_parquet('{keyed.journal}/*.parquet') ORDER BY ts"
        ).fetchall()
    assert rows == [("app", "pro", "support"), ("intern", "free", None), ("backend", "pro", None), ("intern", "free", None)]


def test_a_key_that_may_not_use_the_model(keyed: Gateway, upstream: Provider) -> None:
    long = {"model": "auto", "messages": HELLO}
    upstream.text = "ok"
    assert keyed.post("/v1/embeddings", {"model": "strong", "input": "x"}, key("intern"))[0] == 403
    assert keyed.post(CHAT, long, key("intern"))[0] == 200


def test_the_answer_cache_and_its_line_in_the_replay(upstream: Provider, tmp_path: Path) -> None:
    asked = {"model": "auto", "messages": HELLO, "temperature": 0}
    with serving(POLICY.format(url=upstream.url, more=""), tmp_path, "--answer-cache", "10min") as gateway:
        first = gateway.post(CHAT, asked)
        time.sleep(0.2)
        again = gateway.post(CHAT, asked)
        assert "x-policyroute-cache" not in first[1] and again[1]["x-policyroute-cache"] == "hit" and again[2] == first[2]
        warm = asked | {"temperature": 1}
        assert [gateway.post(CHAT, warm)[1].get("x-policyroute-cache") for _ in range(2)] == [None, None]
        assert len(upstream.seen) == 3
        gateway.stop()
    command = [sys.executable, "-m", "policyroute", "simulate", str(gateway.journal), "--policy", str(tmp_path / "desk.route")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "answer cache" in run.stdout.lower(), run.stdout + run.stderr


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("speaks", "path"), [("chat", MESSAGES), ("chat", RESPONSES), ("messages", CHAT), ("messages", RESPONSES), ("responses", CHAT)]
)
def test_between_apis(upstream: Provider, tmp_path: Path, speaks: str, path: str, stream: bool) -> None:
    """A client of one API is answered by a provider of another, and the journal has the provider's counts."""
    environment = {"POLICYROUTE_MINI_APIS": speaks, "POLICYROUTE_STRONG_APIS": speaks}
    asked: dict[str, object] = {"model": "auto", "stream": stream, "max_tokens": 50, "messages": HELLO}
    if path == RESPONSES:
        asked = {"model": "auto", "stream": stream, "input": "Capital of France?"}
    with serving(POLICY.format(url=upstream.url, more=""), tmp_path, env=environment) as gateway:
        status, headers, body = gateway.post(path, asked)
        gateway.stop()
    assert status == 200, body
    assert (
        headers["x-policyroute-target"] == "mini"
        and upstream.seen[-1][0] == {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}[speaks]
    )
    assert _text(path, body, stream) == TEXT
    with duckdb.connect() as connection:
        (counts,) = connection.execute(
            f"SELECT input_tokens, output_tokens FROM read_parquet('{gateway.journal}/*.parquet')"
        ).fetchall()
    assert counts == (15 if speaks == "messages" else 11, 7)


def _text(path: str, body: bytes, stream: bool) -> str:
    if not stream:
        answer = json.loads(body)
        return {CHAT: lambda: answer["choices"][0]["message"]["content"], MESSAGES: lambda: answer["content"][0]["text"],
                RESPONSES: lambda: answer["output"][-1]["content"][0]["text"]}[path]()  # fmt: skip
    found = events(body)
    if path == CHAT:
        assert body.endswith(b"data: [DONE]\n\n")
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in found if event["choices"])
    if path == MESSAGES:
        assert found[-1]["type"] == "message_stop"
        return "".join(event["delta"].get("text", "") for event in found if event["type"] == "content_block_delta")
    assert found[-1]["type"] == "response.completed"
    return "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")


def test_a_graceful_end_finishes_streams(upstream: Provider, tmp_path: Path) -> None:
    upstream.text, upstream.delay = TEXT, 1.5
    bodies: list[bytes] = []

    def ask() -> None:
        data = json.dumps({"model": "auto", "messages": HELLO, "stream": True}).encode()
        asked = urllib.request.Request(f"{gateway.url}{CHAT}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            bodies.append(answer.read())

    with serving(POLICY.format(url=upstream.url, more=""), tmp_path) as gateway:
        client = threading.Thread(target=ask)
        client.start()
        while not upstream.seen:
            time.sleep(0.02)
        gateway.process.send_signal(signal.SIGTERM)
        client.join(20)
        assert gateway.process.wait(20) == 0
    assert bodies and bodies[0].endswith(b"data: [DONE]\n\n")
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT verdict FROM read_parquet('{gateway.journal}/*.parquet')").fetchall() == [("answered",)]


def test_ctrl_c_ends_it(upstream: Provider, tmp_path: Path) -> None:
    """A terminal signals the whole group: the server ends its workers, and they don't get a second signal beside its own."""
    with serving(POLICY.format(url=upstream.url, more=""), tmp_path, workers=2) as gateway:
        os.killpg(gateway.process.pid, signal.SIGINT)
        assert gateway.process.wait(20) == 0


def test_metrics_are_exact_over_workers(upstream: Provider, tmp_path: Path) -> None:
    with serving(POLICY.format(url=upstream.url, more=""), tmp_path, workers=2) as gateway:
        for _ in range(40):
            assert gateway.post(CHAT, {"model": "auto", "messages": HELLO})[0] == 200
        end = time.monotonic() + 10
        counted = 0.0
        while counted != 40 and time.monotonic() < end:
            lines = gateway.get("/metrics")[2].decode().splitlines()
            counted = sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("policyroute_decisions_total{"))
    assert counted == 40
