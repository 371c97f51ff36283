"""State, live: many workers and threads on one store, and the journal of that replayed to the same decisions."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from policyroute.language.load import load
from policyroute.prices.catalog import complete, load_catalog
from policyroute.replay.options import Options
from policyroute.replay.simulate import Simulation, simulate
from policyroute.state.stores.sqlite import SqliteStore
from tests.gateway_support import Gateway, Provider, free_port, provider, serving
from tests.redis_support import redis_server

POLICY = """edition 1
policy stateful
signal plan : free | pro = free  from header "x-user-plan"
signal max_output : int 1..2k = 200
model mini   {{ provider openai  id "gpt-4o-mini"  url "{url}"  in $0.15  out $0.60   context 128k  can tools, images, json }}
model strong {{ provider openai  id "gpt-4o"       url "{url}"  in $2.50  out $10.00  context 128k  can tools, images, json }}
model best   {{ provider openai  id "gpt-4.1"      url "{url}"  in $5.00  out $25.00  context 128k  can tools, images, json }}
model gone   {{ provider openai  id "gpt-gone"     url "http://127.0.0.1:{closed}/v1"  in $1  out $1  context 128k  can tools, images, json }}
tier cheap = mini
tier good  = strong
tier top   = best, strong
order cheap < good < top
rule hard   {{ when tokens > 150 then top }}
rule medium {{ when tokens > 60 then good }}
rule broken {{ when tools > 0 then gone fallback strong }}
rule never  {{ when turns > 3 then refuse "too many" }}
otherwise   {{ then cheap }}
sticky by conversation for 2s {{ {mode} }}
quota per_user  {{ 6 per day by user of top then good }}
quota per_team  {{ 20 per minute by team of good when plan is free then cheap }}
budget of_team  {{ $0.02 per hour by team of top, good then cheap }}
budget all      {{ $0.20 per day by conversation then refuse "Nothing is left for today." }}
explore 10% by user
on failure {{ then next }}
"""


def requests(count: int, seed: int) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    rng = random.Random(seed)
    for _ in range(count):
        text = "word " * rng.choice([5, 80, 200])
        fields: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": text}], "stream": rng.random() < 0.3}
        if rng.random() < 0.9:
            fields["user"] = f"user {rng.randrange(9)}"
        if rng.random() < 0.1:
            fields["tools"] = [
                {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
            ]
        if rng.random() < 0.05:
            fields["messages"] *= 4
        headers = {"x-user-plan": rng.choice(["free", "pro"]), "x-team": rng.choice(["", "a", "b", "c"])}
        if rng.random() < 0.8:
            headers["x-conversation-id"] = f"c{rng.randrange(12)}"
        yield fields, {name: value for name, value in headers.items() if value}


def send(
    gateway: Gateway, asked: list[tuple[dict[str, Any], dict[str, str]]], threads: int = 12
) -> list[tuple[int, dict[str, str]]]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda one: gateway.post("/v1/chat/completions", *one)[:2], asked))


def replay(journal: Path, policy_file: Path, output: Path) -> Simulation:
    catalog = load_catalog()
    return simulate(complete(load(policy_file), catalog)[0], [journal], catalog, Options(output=output))


def compared(journal: Path, policy_file: Path, tmp_path: Path) -> tuple[list[Any], list[Any]]:
    """Decisions as journalled and as replayed: rule, chain, tier, what acted, exploration, propensity."""
    output = tmp_path / "replayed.parquet"
    named = ", ".join(f"'{tier}'" for tier in ("", *replay(journal, policy_file, output).policy.tiers))
    with duckdb.connect() as connection:
        served = connection.sql(
            "SELECT request_id, decision_rule, decision_chain, coalesce(decision_acted, ''), decision_explored, decision_propensity, "
            f"coalesce(decision_tier, '') FROM read_parquet('{journal}/*.parquet', union_by_name = true) ORDER BY ALL"
        ).fetchall()
        replayed = connection.sql(
            f"SELECT request_id, rule, coalesce(chain, ''), coalesce(acted, ''), explored, propensity, "
            f"CASE WHEN tier IN ({named}) THEN tier ELSE '' END FROM '{output}' ORDER BY ALL"
        ).fetchall()
    return served, replayed


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


MODES = ("never downgrade", "keep model", "keep while cached")


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield "state.sqlite"
        return
    with redis_server(tmp_path) as server:
        yield server.url


@pytest.mark.parametrize("mode", MODES)
def test_a_stateful_journal_replays_to_the_same_decisions(mode: str, store: str, upstream: Provider, tmp_path: Path) -> None:
    """Two workers, twelve requests at a time: quotas and budgets fill up in the middle, conversations are held, upstreams fail."""
    text = POLICY.format(url=upstream.url, closed=free_port(), mode=mode)
    with serving(text, tmp_path, "--no-tests", "--state", store, workers=2) as gateway:
        statuses = Counter(status for status, _ in send(gateway, list(requests(300, 3))))
        assert gateway.stop() == 0
    assert set(statuses) <= {200, 400, 429, 503}
    served, replayed = compared(gateway.journal, tmp_path / "desk.route", tmp_path)
    assert len(served) == 300
    wrong = [pair for pair in zip(served, replayed, strict=True) if pair[0] != pair[1]]
    assert wrong == []
    acted = Counter(name for row in served for name in row[3].split(",") if name)
    assert acted["sticky conversation"] and acted["quota per_user"] and acted["budget of_team"], acted


def test_quota_headers_and_refusal(upstream: Provider, tmp_path: Path) -> None:
    text = f"""edition 1
policy counted
model mini {{ provider openai  id "gpt-4o-mini"  url "{upstream.url}"  in $1  out $2  context 128k }}
otherwise {{ then mini }}
quota few    {{ 2 per day by user then refuse "That is all for today." }}
budget purse {{ $1 per month by user then mini }}
"""
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "user": "u"}
    with serving(text, tmp_path, "--state", "memory", workers=1) as gateway:
        status, headers, _ = gateway.post("/v1/chat/completions", body)
        assert (status, headers["ratelimit-policy"]) == (200, '"few";q=2;w=86400')
        assert headers["ratelimit"].startswith('"few";r=1;t=')
        assert headers["x-policyroute-budget"].startswith('"purse";limit=1')
        dry = json.loads(gateway.post("/v1/route", body)[2])
        assert dry["state"]["left"][0]["left"] == 0 and dry["decision"]["refused"] is None  # after this one, none is left
        assert gateway.post("/v1/chat/completions", body)[0] == 200
        status, headers, answer = gateway.post("/v1/chat/completions", body)
        assert (status, headers["x-should-retry"]) == (429, "false")
        assert 0 < int(headers["retry-after"]) <= 86_400
        assert headers["x-policyroute-acted"] == "quota few"
        assert json.loads(answer)["error"]["message"] == "That is all for today."
        assert gateway.post("/v1/chat/completions", body | {"user": "v"})[0] == 200
        assert b'policyroute_acted_total{by="quota few"} 1' in gateway.get("/metrics")[2]


def test_a_killed_gateway_loses_no_more_than_what_it_had_reserved(upstream: Provider, tmp_path: Path) -> None:
    """In the middle of a window all processes are killed: what was settled is there again, and of those under way the reservation."""
    text = f"""edition 1
policy purse
signal max_output : int 1..1k = 1k
model mini {{ provider openai  id "gpt-4o-mini"  url "{upstream.url}"  in $1  out $2  context 128k }}
otherwise {{ then mini }}
budget purse {{ $1 per month by team then refuse "Nothing is left." }}
"""
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    reserved = 2_000 * 10**6  # 1,000 tokens of output at $2 per million, and a few of input, in picodollars

    def spent() -> int:
        store = SqliteStore(tmp_path / "policyroute-state.sqlite")
        store.step([], lambda _: ([], None), 0)
        ((value,),) = store._connection().execute("SELECT value FROM kept").fetchall()
        return int(value)

    with serving(text, tmp_path, workers=2) as gateway:
        costs = [gateway.post("/v1/chat/completions", body)[1] for _ in range(20)]
        end = time.monotonic() + 10
        known = sum(round(float(headers["x-policyroute-cost-usd"]) * 10**12) for headers in costs)
        while spent() != known and time.monotonic() < end:
            time.sleep(0.05)
        assert spent() == known  # all settled
        upstream.delay = 5.0
        with ThreadPoolExecutor(4) as pool:
            hanging = [pool.submit(lambda: gateway.post("/v1/chat/completions", body)) for _ in range(4)]
            while spent() < known + 4 * reserved and time.monotonic() < end:
                time.sleep(0.05)
            gateway.process.send_signal(signal.SIGKILL)
            _kill_workers(gateway)
            for one in hanging:
                assert one.exception() is not None
    upstream.delay = 0.0
    left = spent() - known
    assert 4 * reserved <= left <= 4 * (reserved + 100 * 10**6)
    with serving(text, tmp_path, workers=2) as gateway:
        assert gateway.post("/v1/chat/completions", body)[0] == 200
        assert spent() >= known + left


def _kill_workers(gateway: Gateway) -> None:
    """The workers have process groups of their own; they are the children that listen on the port."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(gateway.folder / "desk.route").encode() in command and b"serve" in command:
                os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.parametrize("failure", ["open", "closed"])
def test_a_store_that_is_out_of_reach(failure: str, upstream: Provider, tmp_path: Path) -> None:
    """Requests are decided without it, or refused, as declared; both are counted, told by `/healthz`, and over when it is back."""
    text = f"""edition 1
policy counted
model mini   {{ provider openai  id "gpt-4o-mini"  url "{upstream.url}"  in $1  out $2  context 128k }}
model strong {{ provider openai  id "gpt-4o"       url "{upstream.url}"  in $1  out $2  context 128k }}
otherwise {{ then strong }}
quota few {{ 1 per day by user then mini }}
"""
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    with redis_server(tmp_path) as server:
        with serving(text, tmp_path, "--state", server.url, "--state-failure", failure) as gateway:
            targets = [gateway.post("/v1/chat/completions", body)[1].get("x-policyroute-target") for _ in range(2)]
            assert targets == ["strong", "mini"]
            server.stop()
            status, headers, _ = gateway.post("/v1/chat/completions", body)
            if failure == "open":
                assert (status, headers["x-policyroute-target"]) == (200, "strong")
            else:
                assert (status, headers["x-should-retry"], headers["retry-after"]) == (503, "false", "1")
            health = json.loads(gateway.get("/healthz")[2])
            assert health["status"] == "degraded" and "out_of_reach" in health["state"]
            assert b"policyroute_state_missed_total 1" in gateway.get("/metrics")[2]
            server.start()
            end = time.monotonic() + 10
            while json.loads(gateway.get("/healthz")[2])["status"] != "ok" and time.monotonic() < end:
                gateway.post("/v1/chat/completions", body)
                time.sleep(0.1)
            assert gateway.post("/v1/chat/completions", body)[1]["x-policyroute-target"] == "mini"
            assert gateway.stop() == 0
        served, replayed = compared(gateway.journal, tmp_path / "desk.route", tmp_path)
    assert served == replayed


# -- the policies of the design ------------------------------------------------------------------------------------------

DESIGNED = Path(__file__).parents[2] / "shared" / "design" / "policies"
PROVIDERS = ("OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE", "DEEPSEEK", "ZHIPU", "ZAI")


@pytest.mark.skipif(not DESIGNED.exists(), reason="needs ../shared/design/policies")
@pytest.mark.parametrize("name", ["support", "coding"])
def test_designed_policies_are_served_and_replayed(name: str, upstream: Provider, tmp_path: Path) -> None:
    """As they stand: their tests pass at start, conversations of the example trace go through them, and the journal replays."""
    upstream.text = "medium, I'm not sure"
    (tmp_path / "models.route").write_text((DESIGNED / "models.route").read_text("utf-8"), "utf-8")
    text = (DESIGNED / f"{name}.route").read_text("utf-8")
    trace = Path(__file__).parents[1] / "traces" / f"{name}.parquet"
    with duckdb.connect() as connection:
        rows = connection.sql(
            f"SELECT messages, tools, user_id, conversation_id FROM '{trace}' WHERE messages IS NOT NULL ORDER BY ts LIMIT 250"
        ).fetchall()
    asked = [
        (
            {"model": "gpt-4o", "messages": json.loads(messages), "user": user, "metadata": {"plan": ("free", "pro", "enterprise")[n % 3]}}
            | ({"tools": json.loads(tools)} if tools and json.loads(tools) else {}),
            {"x-conversation-id": conversation or ""} | ({"x-escalate": "1"} if n % 17 == 0 else {}),
        )
        for n, (messages, tools, user, conversation) in enumerate(rows)
    ]  # fmt: skip
    env = {f"{provider_}_BASE_URL": upstream.url for provider_ in PROVIDERS} | {
        "ANTHROPIC_BASE_URL": upstream.url.removesuffix("/v1")
    }
    env |= {f"{provider_}_API_KEY": "k" for provider_ in PROVIDERS}
    with serving(text, tmp_path, workers=2, env=env) as gateway:
        statuses = Counter(status for status, _ in send(gateway, asked))
        assert gateway.stop() == 0
    assert statuses[200] > 200, statuses
    served, replayed = compared(gateway.journal, tmp_path / "desk.route", tmp_path)
    assert [pair for pair in zip(served, replayed, strict=True) if pair[0] != pair[1]] == []
    assert any(row[3] for row in served), "state had no part in it"
    if name == "support":
        with duckdb.connect() as connection:
            ((asked_, escalated),) = connection.sql(
                "SELECT count(classified), count(escalated_from) FROM "
                f"read_parquet('{gateway.journal}/*.parquet', union_by_name = true)"
            ).fetchall()
        assert asked_ and escalated
