"""State: how many rows a second a stateful policy replays, against the same transitions one request at a time, as the server makes them.

    python benchmarks/state.py [--smoke]

Rows are a production day's shape, generated: users with heavy tails, conversations of some minutes, a tenth without one. Rows a second are
of the wall clock, with all cores, and only of what state adds: deciding by the rules is `benchmarks/replay.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from harness import Report, median, run

from policyroute.backends.live import compile_policy
from policyroute.language import check_text
from policyroute.language.policy import Policy
from policyroute.language.reference import decide
from policyroute.prices.catalog import complete, load_catalog
from policyroute.replay import prepare
from policyroute.replay.options import Options, silent
from policyroute.replay.state.changes import Changes
from policyroute.state.deciding import Stateful
from policyroute.state.stores.memory import MemoryStore
from policyroute.state.stores.redis import RedisStore
from policyroute.state.stores.sqlite import SqliteStore
from policyroute.state.stores.store import Key, Store, StoreUnreachableError

ROWS, SMOKE_ROWS = 5_000_000, 300_000
STEPS = 4_000  # of a store
HEAD = """edition 1
policy bench
signal plan : free | pro = free
signal max_output : int 1..4k = 1k
model mini   { provider openai  id "mini-1"    in $0.15  out $0.60  context 128k  can tools, images, json }
model medium { provider openai  id "medium-1"  in $1     out $4     context 128k  can tools, images, json }
model big    { provider openai  id "big-1"     in $5     out $25    context 128k  can tools, images, json }
tier cheap = mini
tier good = medium
tier top = big
order cheap < good < top
rule hard   { when tokens > 1500 then top }
rule medium { when tokens > 300 then good }
otherwise   { then cheap }
"""
STICKY = "sticky by conversation for 30min { never downgrade }\n"
QUOTA = "quota fair_use { 20 per day by user of top when plan is pro then good }\n"
BUDGET = "budget team_cap { $20 per day by team then cheap }\n"
POLICIES = {  # what it is, its constructs, the goal in millions of rows a second
    "a quota by user, conversations never downgraded": (STICKY + QUOTA, 1.0),
    "a quota by user": (QUOTA, 1.0),
    "conversations never downgraded": (STICKY, 1.0),
    "a budget by team that every request takes of, and fills": (BUDGET, 1.0),
    "all three": (STICKY + QUOTA + BUDGET, 1.0),
}


def trace(rows: int, target: Path) -> None:
    """Write the rows, drawn by a hash of their numbers."""

    def draw(salt: int) -> str:
        return f"(hash(i * 64 + {salt}) % 1000003 / 1000003.0)"

    user = f"CAST(pow({draw(1)}, 3) * 20000 AS INTEGER)"
    columns = {
        "ts": "TIMESTAMP '2026-03-10' + to_microseconds(i * 100000)", "user_id": f"'u' || {user}", "team": f"'t' || ({user} % 40)",
        "plan": f"CASE WHEN {user} % 5 = 0 THEN 'pro' ELSE 'free' END",
        "conversation_id": f"CASE WHEN {draw(2)} < 0.1 THEN NULL ELSE {user} || '/' || (i // 12000) END", "model": "'big-1'",
        "input_tokens": f"CAST(exp(4 + 4 * {draw(3)}) AS BIGINT)", "output_tokens": f"CAST(exp(3 + 3 * {draw(4)}) AS BIGINT)",
        "latency_ms": f"200 + 3000 * {draw(5)}",
    }  # fmt: skip
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    duckdb.sql(f"COPY (SELECT {listed} FROM range({rows}) t(i)) TO '{target}' (FORMAT parquet)")


def policy_of(constructs: str) -> Policy:
    checked = check_text(HEAD + constructs)
    assert not checked.failed, checked.diagnostics
    return complete(checked.policy, load_catalog())[0]


def replayed(policy: Policy, path: Path) -> tuple[float, Changes]:
    """Seconds that state takes in a replay, and what it changed."""
    taken: list[float] = []
    real = prepare.followed

    def timed(*arguments: object) -> Changes:
        begun = time.perf_counter()
        found = real(*arguments)  # type: ignore[arg-type]
        taken.append(time.perf_counter() - begun)
        return found

    prepare.followed = timed  # type: ignore[assignment]
    try:
        with prepare.prepared([policy], [path], load_catalog(), Options(prompt_cache="held"), silent) as ready:
            changes = ready.views[0].ledger.changes
            assert isinstance(changes, Changes)
            return taken[0], changes
    finally:
        prepare.followed = real


def one_by_one(policy: Policy, path: Path, rows: int) -> float:
    """Seconds for the server's steps over the first rows, in memory."""
    machine, store = Stateful(compile_policy(policy), load_catalog().for_policy(policy)), MemoryStore()
    found = duckdb.sql(
        f"SELECT ts, user_id, team, plan, coalesce(conversation_id, ''), input_tokens FROM '{path}' ORDER BY ts LIMIT {rows}"
    ).fetchall()
    asked = []
    defaults = {name: signal.default for name, signal in policy.signals.items()}
    for ts, user, team, plan, conversation, tokens in found:
        values = {**defaults, "user": user, "team": team, "plan": plan, "conversation": conversation, "tokens": tokens}
        asked.append((decide(policy, values), machine.live.given(values), ts.replace(tzinfo=UTC)))
    begun = time.perf_counter()
    for plain, values, at in asked:
        machine.decide(store, plain, values, at)
    return time.perf_counter() - begun


def steps(store: Store) -> float:
    """Steps a second of a store that counts in one of 100 keys, and in another one of its own."""
    begun = time.perf_counter()
    for number in range(STEPS):
        keys = [Key(f"a{number % 100}", 2**61), Key(f"b{number}", 2**61)]
        store.step(keys, lambda kept: ([(kept[0] or 0) + 1, 1], None), 0)  # type: ignore[operator]
    return STEPS / (time.perf_counter() - begun)


def make(smoke: bool) -> Report:
    report = Report("state", "State", ["policyroute", "duckdb"])
    rows = SMOKE_ROWS if smoke else ROWS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.parquet"
        trace(rows, path)
        for what, (constructs, goal) in POLICIES.items():
            policy = policy_of(constructs)
            found = [replayed(policy, path) for _ in range(1 if smoke else 3)]
            seconds, changes = median([taken for taken, _ in found]), found[0][1]
            sample = min(rows, 20_000)
            theirs = one_by_one(policy, path, sample) / sample
            share = changes.followed.followed / changes.followed.rows
            told = f"{what}, {share:.0%} of the rows followed one by one"
            report.add(told, rows / seconds / 1e6, "M rows/s", claim=goal)
            report.add(f"{what}: the server's steps, in memory", 1 / theirs / 1e6, "M rows/s", ratio=theirs * rows / seconds)
        stores: dict[str, Callable[[], Store]] = {"memory": MemoryStore, "SQLite": lambda: SqliteStore(Path(folder) / "s.sqlite")}
        for name, made in stores.items():
            report.add(f"steps of two keys in {name}, one thread", steps(made()) / 1e3, "k steps/s")
        _redis(report, Path(folder))
    return report


def _redis(report: Report, folder: Path) -> None:
    """Steps in a Redis server of the benchmark's own, where there is one."""
    if shutil.which("redis-server") is None:
        report.add("steps of two keys in Redis, one thread", note="there is no `redis-server`")
        return
    socket = folder / "redis.sock"
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    try:
        until = datetime.now(UTC) + timedelta(seconds=10)
        while not socket.exists() and datetime.now(UTC) < until:
            time.sleep(0.05)
        report.add("steps of two keys in Redis, one thread", steps(RedisStore(f"unix://{socket}")) / 1e3, "k steps/s")
    except (ValueError, StoreUnreachableError) as error:
        report.add("steps of two keys in Redis, one thread", note=str(error))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    run(make)
