"""What was served is what is replayed: a load of mixed traffic through real workers, and every decision found again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from policyroute.language import load
from policyroute.prices.catalog import complete, load_catalog
from policyroute.replay.options import Options, silent
from policyroute.replay.simulate import simulate
from tests.gateway_support import Gateway, Provider, free_port, provider, serving

POLICY = """edition 1
policy mixed "All that a decision can hang on"
timezone "Europe/Berlin"
signal plan    : free | pro | enterprise = free         from header "x-user-plan", metadata "plan", column "user_plan"
signal feature : (search | draft)?                      from metadata "feature"
signal seats   : int 1..500 = 1                         from body "seats"
signal max_output : int 1..4k = 500
words urgent = "outage", "data loss"
words polite = "please", "thank you"
pattern order_number = /(?i)order #?\\d{{4,}}/
model mini   {{ provider openai  id "gpt-4o-mini"   url "{url}"  in $0.15  out $0.60   cached $0.075  context 6k  can tools, json }}
model strong {{ provider openai  id "gpt-4o"        url "{url}"  in $2.50  out $10.00  cached $1.25   context 128k  can tools, images, json }}
model spare  {{ provider openai  id "gpt-4.1"       url "{url}"  in $2.00  out $8.00   cached $0.50   context 1M    can tools, images }}
model gone   {{ provider openai  id "gpt-gone"      url "http://127.0.0.1:{closed}/v1"  in $1  out $1  context 1M  can tools, images, json }}
tier cheap = mini, strong
tier best  = strong, spare
order cheap < best
forbid spare when plan is free  because "unit economics"
rule too_long   {{ when tokens > 9k then refuse "Too long." }}
rule asked      {{ when requested in (strong, spare) and seats >= 100 then requested fallback mini }}
rule agent      {{ when tool is grep or tool_failed or steps >= 2 then best }}
rule incident   {{ when prompt has urgent and plan in (pro, enterprise) then best }}
rule outage     {{ when last has order_number and not last has polite then gone fallback strong, spare }}
rule pictures   {{ when images and json then mini }}
rule search     {{ when feature is search then cheap }}
rule draft      {{ when feature is draft then split by user {{ 60% cheap, 40% best }} }}
rule escalated  {{ when escalated or code then best }}
shadow rule late {{ when hour >= 0 and weekday in (mon, tue, wed, thu, fri, sat, sun) and turns >= 2 then cheap }}
otherwise       {{ then cheap }}
explore 10% by user
on failure {{ retry 1 on timeout  then next  within 20s }}
"""
APIS = {f"POLICYROUTE_{name}_APIS": "chat,responses,messages" for name in ("MINI", "STRONG", "SPARE", "GONE")}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TEXTS = (
    "Hello, what can you do?", "We have an OUTAGE and data loss", "Where is order #12345?", "Please: where is order 99999?", "def f(x):\n    return x\n",
    "Grüße aus İstanbul ß \ud83d\ude00", "word " * 4_000, "word " * 12_000, "",
)  # fmt: skip


def requests(count: int) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Path, body and headers of requests of every kind, the same each time."""
    rng = random.Random(7)
    for number in range(count):
        text = rng.choice(TEXTS)
        fields: dict[str, Any] = {
            "model": rng.choice(["auto", "strong", "gpt-4.1", "openai/gpt-4o", "unknown", "mini"]),
            "stream": rng.random() < 0.4,
        }
        fields |= rng.choice([{}, {"seats": 250}, {"seats": "nonsense"}, {"seats": 10**30}])
        metadata: dict[str, str] = rng.choice(
            [{}, {"feature": "search"}, {"feature": "draft"}, {"feature": "other"}, {"plan": "pro"}]
        )
        fields |= {"metadata": metadata} if metadata else {}
        fields |= {"user": f"user {rng.randrange(40)}"} if rng.random() < 0.8 else {}
        headers = rng.choice(
            [{}, {"x-user-plan": "pro"}, {"x-user-plan": "enterprise"}, {"x-user-plan": "\u00e9"}, {"x-escalate": "1"}]
        )
        messages: list[Any] = [{"role": "user", "content": text}]
        if rng.random() < 0.3:
            messages = [
                {"role": "system", "content": "You help."},
                *messages,
                {"role": "assistant", "content": "Yes."},
                {"role": "user", "content": rng.choice(TEXTS)},
            ]
        kind = number % 3
        if kind == 0 and rng.random() < 0.3:
            call = {"id": "c1", "type": "function", "function": {"name": "grep", "arguments": "{}"}}
            messages += [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "Error: no such file"},
            ]
        if kind == 0 and rng.random() < 0.2:
            messages[-1] = {"role": "user", "content": [{"type": "text", "text": text}, PICTURE]}
            fields["response_format"] = {"type": "json_object"}
        if kind == 2:
            yield "/v1/responses", fields | {"input": text or [], "max_output_tokens": rng.choice([16, 90_000])}, headers
            continue
        fields |= {"messages": messages} | ({"max_tokens": rng.choice([1, 64, 100_000])} if kind == 1 or rng.random() < 0.5 else {})
        yield ("/v1/messages" if kind == 1 else "/v1/chat/completions"), fields, headers


def send(gateway: Gateway, count: int) -> list[int]:
    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(lambda asked: gateway.post(*asked)[0], requests(count)))


def compared(journal: Path, policy_file: Path, tmp_path: Path) -> tuple[list[Any], list[Any]]:
    """The journalled decisions and those of the replay, both by request."""
    catalog = load_catalog()
    policy, _ = complete(load(policy_file), catalog)
    output = tmp_path / "replayed.parquet"
    simulate(policy, [journal], catalog, Options(output=output), silent)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        served = connection.execute(
            f"SELECT request_id, decision_rule, coalesce(decision_arm, -1), decision_chain, decision_explored, decision_propensity FROM read_parquet('{journal}/*.parquet', union_by_name = true) ORDER BY ALL"
        ).fetchall()
        replayed = connection.execute(
            f"SELECT request_id, rule, coalesce(arm, -1), coalesce(chain, ''), explored, propensity FROM read_parquet('{output}') ORDER BY ALL"
        ).fetchall()
    return served, replayed


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


def test_journal(upstream: Provider, tmp_path: Path) -> None:
    """After a load of mixed traffic, replaying the journal under the same policy gives every decision again, byte for byte."""
    text = POLICY.format(url=upstream.url, closed=free_port())
    with serving(text, tmp_path, env=APIS, workers=2) as gateway:
        statuses = send(gateway, 400)
        assert gateway.stop() == 0
    assert set(statuses) == {200, 400}  # 400 is the refusal; the model that is gone was never noticed
    served, replayed = compared(gateway.journal, tmp_path / "desk.route", tmp_path)
    assert len(served) == 400 and served == replayed
    assert {rule for _, rule, *_ in served} == {
        "too_long", "asked", "agent", "incident", "outage", "pictures", "search", "draft", "escalated", "otherwise",
    }  # fmt: skip
    assert {explored for *_, explored, _ in served} == {True, False} and {arm for _, _, arm, *_ in served} == {-1, 0, 1}


def test_a_killed_gateway_loses_no_more_than_the_window(upstream: Provider, tmp_path: Path) -> None:
    """`kill -9` of server and workers; what was answered before the window is in the folder, and a new start makes it whole."""
    text = POLICY.format(url=upstream.url, closed=free_port())
    with serving(text, tmp_path, "--journal-window", "200ms", env=APIS, workers=2) as gateway:
        send(gateway, 120)
        time.sleep(0.6)
        _kill_group(gateway)
    with serving(text, tmp_path, env=APIS) as gateway:
        assert gateway.post("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "x"}]})[0] == 200
        assert gateway.stop() == 0
    served, replayed = compared(gateway.journal, tmp_path / "desk.route", tmp_path)
    assert len(served) == 121 and served == replayed


def test_prompts_are_kept_when_asked_for_and_redacted(upstream: Provider, tmp_path: Path) -> None:
    text = POLICY.format(url=upstream.url, closed=free_port())
    with serving(text, tmp_path, "--prompts", env=APIS) as gateway:
        gateway.post("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "I am jane@example.org"}]})
        gateway.stop()
    with duckdb.connect() as connection:
        ((messages, output),) = connection.execute(
            f"SELECT messages, output FROM read_parquet('{gateway.journal}/*.parquet')"
        ).fetchall()
    assert "jane" not in messages and json.loads(messages)[0]["role"] == "user" and "Paris" in output


def test_another_policy_replays_the_journal(upstream: Provider, tmp_path: Path) -> None:
    """The journal is a trace like any other: a candidate policy is judged on it, and a shadow's decisions were its own."""
    text = POLICY.format(url=upstream.url, closed=free_port())
    candidate = tmp_path / "candidate.route"
    candidate.write_text(text.replace("policy mixed", "policy candidate").replace("tokens > 9k", "tokens > 3k"))
    with serving(text, tmp_path, "--shadow", str(candidate), env=APIS) as gateway:
        send(gateway, 90)
        gateway.stop()
    _, replayed = compared(gateway.journal, candidate, tmp_path)
    with duckdb.connect() as connection:
        shadow = connection.execute(
            f"SELECT request_id, shadow_rule, shadow_chain FROM read_parquet('{gateway.journal}/*.parquet') ORDER BY ALL"
        ).fetchall()
    assert shadow == [(row[0], row[1], row[3]) for row in replayed]


def _kill_group(gateway: Gateway) -> None:
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(gateway.process.pid)], capture_output=True, text=True, check=False
    ).stdout
    for pid in [gateway.process.pid, *map(int, children.split())]:
        os.kill(pid, signal.SIGKILL)
    gateway.process.wait()
