"""The same state in three readings: reckoned slowly, decided one by one as live, and replayed in columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyroute.backends.live import compile_policy
from policyroute.language.limits import read_signals
from policyroute.language.load import check_text
from policyroute.language.policy import Policy, Value
from policyroute.language.reference import decide
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.prices.cost import Usage, cost
from policyroute.replay.options import Options
from policyroute.replay.simulate import simulate
from policyroute.state.deciding import Stateful, settle
from policyroute.state.stores.memory import MemoryStore
from policyroute.state.windows import micros
from tests.slow_state import Sent, reckon

CATALOG: Catalog = load_catalog()
START = datetime(2026, 3, 27, 20, tzinfo=UTC)  # two days before the clocks change in Berlin

HEAD = """edition 1
policy generated
signal plan : free | pro = free
signal region : us | eu = us
signal max_output : int 1..8k = 1k
model nano   { provider openai     id "n"  in $1  out $2   context 60k   can tools, images, json }
model haiku  { provider anthropic  id "h"  in $2  out $4   context 200k  can tools, images, json }
model sonnet { provider anthropic  id "s"  in $3  out $15  context 200k  can tools, images, json }
model opus   { provider deepseek   id "o"  in $5  out $25  context 200k  can tools, images, json }
model other  { provider nobody     id "x"  in $2  out $9   context 200k  can tools, images, json }
tier cheap    = nano, haiku
tier standard = sonnet, haiku
tier premium  = opus, sonnet
order cheap < standard < premium
"""
TARGETS = ("cheap", "standard", "premium", "other", "opus fallback nano", "requested fallback haiku")
SPLIT = "split by user { 50% cheap, 50% premium }"
CONDITIONS = ("tokens > 5k", "tokens > 20k and plan is pro", "region is eu", "plan is free", "tokens < 900")


@st.composite
def policies(draw: st.DrawFn) -> str:
    lines = [HEAD]
    if draw(st.booleans()):
        lines.append('timezone "Europe/Berlin"\n')
    for number in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from((*TARGETS, SPLIT, 'refuse "no"')))
        lines.append(f"rule r{number} {{ when {draw(st.sampled_from(CONDITIONS))} then {target} }}\n")
    lines.append(f"otherwise {{ then {draw(st.sampled_from(TARGETS))} }}\n")
    if draw(st.booleans()):
        lines.append(
            f"forbid {draw(st.sampled_from(('opus', 'sonnet, haiku', 'nano')))} when {draw(st.sampled_from(CONDITIONS))}\n"
        )
    if draw(st.integers(0, 3)):
        mode = draw(st.sampled_from(("never downgrade", "keep model", "keep while cached")))
        lines.append(f"sticky by conversation for {draw(st.sampled_from(('10min', '2h')))} {{ {mode} }}\n")
    for number in range(draw(st.integers(0, 3))):
        period = draw(st.sampled_from(("minute", "hour", "day", "week", "month")))
        key = draw(st.sampled_from(("user", "team")))
        of = draw(st.sampled_from(("", "of premium ", "of opus, nano ", "of standard ")))
        when = draw(st.sampled_from(("", *(f"when {condition} " for condition in CONDITIONS))))
        then = draw(st.sampled_from((*TARGETS, 'refuse "used up"')))
        if draw(st.booleans()):
            lines.append(f"quota q{number} {{ {draw(st.integers(1, 4))} per {period} by {key} {of}{when}then {then} }}\n")
        else:
            amount = draw(st.sampled_from(("$0.02", "$0.10", "$0.35", "$1.20")))
            lines.append(f"budget b{number} {{ {amount} per {period} by {key} {of}{when}then {then} }}\n")
    if draw(st.integers(0, 4)) == 0:
        lines.append("explore 30% by user\n")
    return "".join(lines)


@st.composite
def traces(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows in order of time; some at the same moment."""
    now, rows = START, []
    for _ in range(draw(st.integers(1, 40))):
        now += timedelta(seconds=draw(st.sampled_from((0, 0, 1, 40, 200, 290, 301, 700, 3_000, 40_000))))
        rows.append({
            "ts": now, "user_id": draw(st.sampled_from(("", "a", "b"))), "team": draw(st.sampled_from(("", "t"))),
            "conversation_id": draw(st.sampled_from(("", "c", "d"))), "plan": draw(st.sampled_from(("free", "pro"))),
            "region": draw(st.sampled_from(("us", "eu"))), "requested_model": draw(st.sampled_from(("n", "s", "o", "what"))), "model": "s",
            "input_tokens": draw(st.sampled_from((10, 800, 1_500, 6_000, 25_000, 70_000))), "output_tokens": draw(st.sampled_from((0, 5, 700, 4_000))),
            "latency_ms": draw(st.sampled_from((None, 0.0, 900.0, 40_000.0, 400_000.0))),
        })  # fmt: skip
    return rows


def policy_of(text: str) -> Policy:
    checked = check_text(text)
    assert not checked.failed, [d.message for d in checked.diagnostics]
    return complete(checked.policy, CATALOG)[0]


def values_of(policy: Policy, row: dict[str, Any]) -> dict[str, Value]:
    asked = {"n": "nano", "s": "sonnet", "o": "opus"}.get(row["requested_model"], "*")
    known = {
        "tokens": row["input_tokens"], "user": row["user_id"], "team": row["team"], "conversation": row["conversation_id"],
        "plan": row["plan"], "region": row["region"], "requested": asked,
    }  # fmt: skip
    needed = {"tokens", "max_output", "requested", *read_signals(policy), "tools", "images", "json"}
    return {name: known.get(name, policy.signals[name].default) for name in needed}


Told = tuple[str, tuple[str, ...], tuple[str, ...]]  # rule, chain, what acted


def slowly(policy: Policy, rows: list[dict[str, Any]]) -> list[Told]:
    sent = [
        Sent(values_of(policy, row), row["ts"], Usage(row["input_tokens"], row["output_tokens"]), (row["latency_ms"] or 0) / 1000)
        for row in rows
    ]
    reckon(policy, CATALOG.for_policy(policy), sent)
    return [(one.rule, one.chain, one.acted) for one in sent]


def live(policy: Policy, rows: list[dict[str, Any]]) -> list[Told]:
    prices, store = CATALOG.for_policy(policy), MemoryStore()
    machine = Stateful(compile_policy(policy), prices)
    found: list[Told] = []
    waiting: list[tuple[datetime, int, Any, int]] = []
    for number, row in enumerate(rows):
        for entry in sorted(one for one in waiting if one[0] <= row["ts"]):
            settle(store, entry[2], entry[3], micros(row["ts"]))
            waiting.remove(entry)
        values = machine.live.given({name: value for name, value in values_of(policy, row).items()})
        decided = machine.decide(store, decide(policy, values_of(policy, row)), values, row["ts"])
        decision = decided.decision
        found.append((decision.rule, decision.chain, decision.acted))
        if decided.budgets:
            billed = cost(Usage(row["input_tokens"], row["output_tokens"]), prices[decision.chain[0]], row["ts"])
            assert billed is not None
            over = row["ts"] + timedelta(milliseconds=row["latency_ms"] or 0)
            waiting.append((over, number, decided.budgets, billed.picodollars))
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    kinds = {"ts": pa.timestamp("us"), "input_tokens": pa.int64(), "output_tokens": pa.int64(), "latency_ms": pa.float64()}
    columns = {
        name: pa.array(
            [row[name].replace(tzinfo=None) if name == "ts" else row[name] for row in rows], kinds.get(name, pa.string())
        )
        for name in rows[0]
    }
    pq.write_table(pa.table(columns), path)
    return path


def replayed(policy: Policy, path: Path, out: Path) -> list[Told]:
    simulate(policy, [path], CATALOG, Options(output=out, prompt_cache="held", failures=False))
    table = pq.read_table(out).to_pylist()
    return [
        (
            row["rule"],
            tuple(row["chain"].split(",")) if row["chain"] else (),
            tuple(row["acted"].split(",")) if row.get("acted") else (),
        )
        for row in table
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(policies(), traces())
def test_three_readings_agree(tmp_path_factory: Any, text: str, rows: list[dict[str, Any]]) -> None:
    policy = policy_of(text)
    slow = slowly(policy, rows)
    assert live(policy, rows) == slow
    folder = tmp_path_factory.mktemp("state")
    assert replayed(policy, write(folder / "t.parquet", rows), folder / "out.parquet") == slow


# -- as a gateway's store made it ------------------------------------------------------------------------------------------


@st.composite
def journals(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], list[int], list[int]]:
    """A policy and requests in the order in which stores decided them: their clocks differ, so that times go back and forth; how many requests
    later each is settled (-1: never), and which of two stores it went to."""
    text, rows = draw(policies()), draw(traces())
    skews = draw(st.lists(st.sampled_from((0, 0, 1, -1, 7, -40, 900, -4_000)), min_size=len(rows), max_size=len(rows)))
    for row, skew in zip(rows, skews, strict=True):
        row["ts"] += timedelta(seconds=skew)
    later = draw(st.lists(st.sampled_from((0, 0, 1, 3, 9, -1)), min_size=len(rows), max_size=len(rows)))
    stores = draw(st.lists(st.integers(0, draw(st.integers(0, 1))), min_size=len(rows), max_size=len(rows)))
    return text, rows, later, stores


def journalled(
    policy: Policy, rows: list[dict[str, Any]], later: list[int], places: list[int]
) -> tuple[list[Told], list[dict[str, Any]]]:
    """The decisions of the server's steps, and the journal's rows."""
    prices, stores = CATALOG.for_policy(policy), [MemoryStore(), MemoryStore()]
    machine = Stateful(compile_policy(policy), prices)
    told: list[Told] = []
    written: list[dict[str, Any]] = []
    waiting: list[tuple[int, int, Any]] = []  # when it is settled, whose it is, what was taken

    def settled(upto: int) -> None:
        for entry in sorted(one for one in waiting if one[0] <= upto):
            _, number, budgets = entry
            row = written[number]
            cost_ = None if row["output_tokens"] == 5 else 1_000_000 * row["output_tokens"]  # some costs aren't known
            row["settled_number"] = settle(stores[places[number]], budgets, cost_, micros(row["ts"]))
            row["settled_usd"] = None if cost_ is None else f"{cost_ / 10**12:.12f}"
            waiting.remove(entry)

    for number, row in enumerate(rows):
        settled(number)
        values = values_of(policy, row)
        store = stores[places[number]]
        decided = machine.decide(store, decide(policy, values), machine.live.given(values), row["ts"])
        decision = decided.decision
        told.append((decision.rule, decision.chain, decision.acted))
        written.append(
            row | {"state_store": store.id, "state_number": decided.number, "decision_chain": ",".join(decision.chain), "settled_number": None, "settled_usd": None}
        )  # fmt: skip
        if decided.budgets and later[number] >= 0:
            waiting.append((number + 1 + later[number], number, decided.budgets))
    settled(10**9)
    return told, written


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(journals())
def test_a_journal_is_followed_in_the_order_of_its_stores(tmp_path_factory: Any, made: Any) -> None:
    """Whatever the clocks say, whenever answers ended and were settled, and whichever store it was."""
    text, rows, later, places = made
    policy = policy_of(text)
    told, written = journalled(policy, rows, later, places)
    folder = tmp_path_factory.mktemp("journal")
    columns = {name: pa.array([row[name] for row in written], KINDS.get(name, pa.string())) for name in written[0] if name != "ts"}
    columns["ts"] = pa.array([row["ts"].replace(tzinfo=None) for row in written], pa.timestamp("us"))
    columns["request_id"] = pa.array([f"r{number}" for number in range(len(written))])
    pq.write_table(pa.table(columns), folder / "journal.parquet")
    assert replayed(policy, folder / "journal.parquet", folder / "out.parquet") == told


KINDS = {
    "input_tokens": pa.int64(), "output_tokens": pa.int64(), "latency_ms": pa.float64(), "state_number": pa.int64(), "settled_number": pa.int64(),
}  # fmt: skip
