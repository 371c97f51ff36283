"""A day of a production service's 331,407 requests with quota, budget and stickiness: totals equal a reckoning of their own."""

from __future__ import annotations

import heapq
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from policyroute.replay.options import Options
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate
from tests.simulate_support import SHARED, catalog, picodollars, policy_from

SOURCE = SHARED / "data" / "servegen_sampled" / "m-small_day0_1pct.parquet"
SCRIPT = Path(__file__).parents[1] / "scripts" / "make_stateful_day.py"
POLICY = """
signal plan : free | pro = free
signal max_output : int 1..4k = 1k
model mini   { provider openai  id "mini-1"    in $0.15  out $0.60  context 128k }
model medium { provider openai  id "medium-1"  in $1     out $4     context 128k }
model big    { provider openai  id "big-1"     in $5     out $25    context 128k }
tier cheap = mini
tier good = medium
tier top = big
order cheap < good < top
rule hard   { when tokens > 400 then top }
rule medium { when tokens > 60 then good }
otherwise   { then cheap }
sticky by conversation for 20min { never downgrade }
quota premium_free { 20 per day by user of top when plan is free then good }
quota burst        { 60 per hour by user of good, top then cheap }
budget team_cap    { $2 per day by team then cheap }
"""
RATES = {"mini": (150_000, 600_000), "medium": (1_000_000, 4_000_000), "big": (5_000_000, 25_000_000)}  # picodollars per token
TIERS = ("mini", "medium", "big")  # each tier has one model


def reckoned(rows: list[dict[str, Any]]) -> tuple[Counter[str], int, dict[str, int]]:
    """How often each model is chosen, what all of it costs, and how often each construct acts: one plain loop, with its own rules."""
    models: Counter[str] = Counter()
    acted: Counter[str] = Counter()
    total = 0
    conversations: dict[str, tuple[int, Any]] = {}
    quota: Counter[Any] = Counter()
    spent: Counter[Any] = Counter()
    settling: list[tuple[Any, int, Any, int]] = []
    for number, row in enumerate(rows):
        now, user = row["ts"], row["user_id"]
        while settling and settling[0][0] <= now:
            _, _, key, change = heapq.heappop(settling)
            spent[key] += change
        tokens = row["input_tokens"]
        place = 2 if tokens > 400 else 1 if tokens > 60 else 0
        conversation = row["conversation_id"]
        before = conversations.get(conversation) if conversation else None
        if before is not None and now - before[1] <= timedelta(minutes=20) and before[0] > place:
            place = before[0]
            acted["sticky conversation"] += 1
        day, hour, team = (user, now.date()), (user, now.replace(minute=0, second=0, microsecond=0)), (row["team"], now.date())
        did: set[str] = set()
        while True:
            rates = RATES[TIERS[place]]
            reserve = tokens * rates[0] + 1_000 * rates[1]
            if "premium_free" not in did and row["plan"] == "free" and place == 2 and quota["premium", day] >= 20:
                did.add("premium_free")
                place = 1
            elif "burst" not in did and place >= 1 and quota["burst", hour] >= 60:
                did.add("burst")
                place = 0
            elif "team_cap" not in did and spent[team] + reserve > 2 * 10**12:
                did.add("team_cap")
                place = 0
            else:
                break
        acted.update(did)
        quota["premium", day] += place == 2 and row["plan"] == "free"
        quota["burst", hour] += place >= 1
        cost = tokens * rates[0] + row["output_tokens"] * rates[1]
        spent[team] += reserve
        heapq.heappush(settling, (now + timedelta(milliseconds=row["latency_ms"]), number, team, cost - reserve))
        if conversation:
            conversations[conversation] = (
                place,
                max(now, before[1]) if before and now - before[1] <= timedelta(minutes=20) else now,
            )
        models[TIERS[place]] += 1
        total += cost
    return models, total, dict(acted)


@pytest.mark.skipif(not SOURCE.exists(), reason="needs ../shared/data/servegen_sampled")
def test_a_day_with_quota_budget_and_stickiness(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(SOURCE), str(tmp_path / "day.parquet")], check=True)
    rows = sorted(pq.read_table(tmp_path / "day.parquet").to_pylist(), key=lambda row: row["ts"])
    assert len(rows) == 331_407
    models, total, acted = reckoned(rows)
    out = tmp_path / "out.parquet"
    simulation = simulate(policy_from(POLICY), [tmp_path / "day.parquet"], catalog(), Options(output=out, prompt_cache="held"))
    found = result(simulation)
    replayed = pq.read_table(out, columns=["new_model", "acted"]).to_pydict()
    assert Counter(replayed["new_model"]) == models
    assert picodollars(found["headline"]["routed_usd"]) == total
    names = Counter(
        name.removeprefix("quota ").removeprefix("budget ") for text in replayed["acted"] if text for name in text.split(",")
    )
    assert names == acted
    assert min(acted.values()) > 100 and len(acted) == 4, acted
    assert sum(line["rows"] for line in found["state"]["acted"]) == sum(text is not None for text in replayed["acted"])
