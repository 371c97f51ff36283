"""What the journal keeps of a request: replayed under the same policy, every row gives its decision again; what is counted, and what is not said."""

from __future__ import annotations

import io
import json
import shutil
import string
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from policyroute.backends.live import compile_policy
from policyroute.language import Policy
from policyroute.language.decision import Decision
from policyroute.language.policy import TextSet, Value
from policyroute.language.vocabulary import SIGNALS, WEEKDAYS
from policyroute.prices.cost import Cost, Usage
from policyroute.proxy.journal.columns import CANONICAL, COLUMNS, TAKEN
from policyroute.proxy.journal.compact import compact
from policyroute.proxy.journal.lines import line_of, row_of_line
from policyroute.proxy.journal.redact import built_in, redactor
from policyroute.proxy.journal.rows import LARGEST, row_of
from policyroute.proxy.served import Attempt, Served, Shadow
from policyroute.proxy.settings import ServeError
from policyroute.render.simulation import simulation
from policyroute.replay.extraction import wanted
from policyroute.replay.observe import EXTRACTED, Available, observe, wanted_content
from policyroute.replay.traces import open_trace
from policyroute.replay.traces.schema import COLUMNS as SCHEMA
from policyroute.replay.traces.schema import SUSPECT
from policyroute.signals.facts import VERSION, Facts
from policyroute.signals.kept import kept_scan
from policyroute.signals.text import ScannerError
from policyroute.signals.values import Reader
from tests import strategies
from tests.simulate_support import Json, policy_from, replay

NOON = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
EXPENSIVE = max(2, settings().max_examples // 30)  # each is a replay
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu")

Row = dict[str, Any]


# -- a journal made by hand ----------------------------------------------------------------------------------------


def segment(
    folder: Path, rows: Sequence[Mapping[str, object]], name: str = "20261125T120000.000000Z-1-00000001", ending: str = ".jsonl"
) -> Path:
    """Rows as a segment of a journal."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"journal-{name}{ending}"
    path.write_bytes(b"".join(map(line_of, rows)))
    return path


def served(policy: Policy, values: Any = None, decision: Decision | None = None, **more: Any) -> Served:
    """A request that the first model of its chain answered, unless `more` says otherwise."""
    chosen = decision.chain[0] if decision and decision.chain else ""
    given: dict[str, Any] = {"id": "r", "at": NOON, "api": "chat", "model": chosen, "status": 200, "usage": Usage(100, 10)} | more
    return Served(policy=policy, values=values, decision=decision, **given)


def decided(policy: Policy, folder: Path) -> list[Row]:
    """What `simulate --output` writes for a journal, in its order."""
    target = folder.parent / f"{folder.name}-decisions.parquet"
    replay(policy, folder, output=target)
    return pq.read_table(target).to_pylist()


def check(policy: Policy, folder: Path, decisions: Mapping[str, Decision]) -> None:
    """A replay finds every decision again."""
    again = {row["request_id"]: row for row in decided(policy, folder)}
    assert again.keys() == decisions.keys()
    for name, decision in decisions.items():
        row, chain, arm = again[name], ",".join(decision.chain), None if decision.arm < 0 else decision.arm
        found = (
            row["rule"],
            row["arm"],
            row["chain"] or "",
            row["explored"],
            row["propensity"] if chain else decision.propensity,
        )
        assert found == (decision.rule, arm, chain, decision.explored, decision.propensity), name
        assert (row["class"] in ("refused", "unroutable")) == bool(decision.refused), name


def dicts(connection: duckdb.DuckDBPyConnection, relation: str) -> list[Row]:
    found = connection.sql(relation)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("journals")


@pytest.fixture
def empty(place: Path) -> Path:
    return fresh(place)


def fresh(place: Path) -> Path:
    """A folder for one journal; those of earlier examples are removed."""
    shutil.rmtree(place / "example", ignore_errors=True)
    (place / "example").mkdir()
    return place / "example" / "journal"


# -- columns -------------------------------------------------------------------------------------------------------


def test_canonical_columns_are_those_of_traces() -> None:
    assert {column.name: column.type for column in SCHEMA if column.name != SUSPECT} == CANONICAL


def test_every_signal_has_a_ready_made_column() -> None:
    """All but the texts, and what `ts` tells."""
    without = {name for name, row in SIGNALS.items() if not row.columns}
    assert without == {"hour", "weekday", "prompt", "last", "system"}
    assert {column for row in SIGNALS.values() for column in row.columns} <= TAKEN


FULL = """
timezone "Europe/Berlin"
signal plan : free | pro = free  from header "x-plan", column "user_plan"
words urgent = "outage"
model a { provider openai  id "gpt-4o"  in $1 out $2 }
model b { provider anthropic  id "claude-x"  in $3 out $4 }
tier low = a, b
rule hot { when prompt has urgent or plan is pro then b }
otherwise { then low }
"""


def full(policy: Policy) -> Served:
    body = {
        "model": "gpt-4o",
        "user": "u1",
        "max_tokens": 77,
        "messages": [{"role": "user", "content": "an outage, a@b.example"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    values = Reader(policy)(Facts.of_body(body, {"x-plan": "pro", "x-team": "t1"}, NOON, policy.timezone))
    decision = compile_policy(policy).decide(values)
    return served(
        policy, values, decision, tier="", caller="app", user="u1", team="t1", conversation="c1", requested="gpt-4o", stream=True, provider="anthropic",
        model_id="claude-x", response_model="claude-x-1", usage=Usage(1_000, 20, 800, 50, 5), reasoning=7, service_tier="standard", cost=Cost(1_234_567),
        latency=12.5, first=3.25, overhead=0.4, retry=2, finish_reason="stop", shadow=Shadow(policy, Decision("otherwise", ("a", "b")), Cost(5)),
        attempts=[Attempt("a", 0.5, 2.0, "429"), Attempt("b", 3.0, 9.0, "answered")], prompt=json.dumps(body).encode(), answer=b'{"choices": [{"message": {"role": "assistant", "content": "ok"}}]}',
    )  # fmt: skip


def test_a_row_holds_the_request(empty: Path) -> None:
    policy = policy_from(FULL)
    segment(empty, [row_of(full(policy))])
    connection = duckdb.connect()
    trace = open_trace(empty, connection=connection, scratch=empty.parent)
    (row,) = dicts(connection, trace.relation)
    assert trace.format == "canonical"
    wanted = {
        "ts": NOON.replace(tzinfo=None), "request_id": "r", "conversation_id": "c1", "user_id": "u1", "team": "t1", "provider": "anthropic", "model": "claude-x",
        "requested_model": "gpt-4o", "response_model": "claude-x-1", "api": "chat", "input_tokens": 1_000, "cached_tokens": 800, "cache_write_5m_tokens": 50,
        "cache_write_1h_tokens": 5, "output_tokens": 20, "reasoning_tokens": 7, "max_output_tokens": 77, "messages": None, "output": None, "stream": True,
        "status_code": 200, "finish_reason": "stop", "latency_ms": 12.5, "ttft_ms": 3.25, "cost_usd": Decimal("0.000001234567"), "service_tier": "standard",
        "tool_count": 1, "turns": 1, "requested": "gpt-4o", "user": "u1", "conversation": "opening-a7fe0cc8cd60189719704251", "max_output": 77, "user_plan": "pro",
        "decision_rule": "hot", "decision_chain": "b", "decision_explored": False, "decision_propensity": 1.0, "served_model": "b", "verdict": "answered", "answer_cached": False, "overhead_ms": 0.4, "caller": "app",
        "client_retry": 2, "extractor": VERSION, "policy_digest": policy.digest, "shadow_rule": "otherwise", "shadow_chain": "a,b", "propensity": 1.0,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert json.loads(row["attempts"])[0] == {"model": "a", "began_ms": 0.5, "took_ms": 2.0, "result": "429"}
    assert Decimal(row["shadow_cost_usd"]) == Decimal("0.000000000005")
    assert row["tokens"] not in (None, row["input_tokens"])
    texts = json.dumps(row, default=str)
    assert "an outage" not in texts and "a@b.example" not in texts


def test_parquet_and_lines_hold_the_same(empty: Path) -> None:
    """Compacted or not, a reader sees the same values."""
    policy = policy_from(FULL)
    segment(empty, [row_of(full(policy), prompts=True)])
    before, types = read_back(empty)
    assert compact(empty, everything=True) == 1
    after, compacted = read_back(empty)
    decimals = ("saved_usd", "shadow_cost_usd")
    assert {k: Decimal(v) if k in decimals else v for k, v in before[0].items()} == {
        k: v for k, v in after[0].items() if k in before[0]
    }
    assert {k: v for k, v in after[0].items() if k not in before[0] and v is not None} == {}
    assert {name: type_ for name, type_ in types.items() if name not in decimals} == {
        n: t for n, t in compacted.items() if n in types and n not in decimals
    }
    assert pq.read_schema(next(empty.glob("*.parquet"))).names[: len(COLUMNS)] == list(COLUMNS)


def read_back(folder: Path) -> tuple[list[Row], dict[str, str]]:
    connection = duckdb.connect()
    trace = open_trace(folder, connection=connection, scratch=folder.parent)
    relation = connection.sql(trace.relation)
    return dicts(connection, trace.relation), dict(zip(relation.columns, map(str, relation.types), strict=True))


# -- every decision again ------------------------------------------------------------------------------------------

TRAPS = """
signal provider : openai | anthropic = openai  from header "x-provider"
signal api      : (chat | batch)?  from header "x-api"
signal row      : int 0..9 = 3  from header "x-row"
signal verdict  : key  from header "x-verdict"
signal tier     : gold | silver = silver  from header "x-tier", column "Tokens"
signal grade    : gold | silver = silver  from header "x-grade", column "the grade"
signal rank     : int 1..5 = 2  from header "x-rank", column "the grade"
signal session_id : key  from header "x-session"
signal beta     : bool = true  from header "x-beta"
signal hour     : int 0..23  from header "x-hour"
signal tokens   : int 0..1M  from header "x-tokens", column "own"
signal team     : key  from header "x-squad"
signal stream   : bool = false  from header "x-stream"
classifier level : easy | hard { ask b prompt "Easy or hard?" on failure hard }
"""
TRAP_RULES = """
rule trap { when (provider is anthropic and api is batch) or row > 8 or (tier is gold and grade is gold) or rank == 4 or level is easy then low }
rule off { when not beta or (stream and api is missing) then d }
rule apart { when hour < 12 then split by session_id { 50% a, 50% b } }
rule apart_too { when hour > 21 then split by verdict { 50% a, 50% b } }
rule teams { when tokens < 50k then split by team { 30% c, 70% d } }
"""


@st.composite
def cases(draw: Any) -> tuple[Policy, list[tuple[dict[str, Value], datetime]]]:
    """A generated policy in some zone, and requests as signal values whose hour and weekday are those of their time there."""
    zone = draw(st.sampled_from(ZONES))
    policy = strategies.checked(
        draw(strategies.policy_texts()).replace("policy generated\n", f'policy generated\ntimezone "{zone}"\n')
    )
    times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
    requests = []
    for values in draw(st.lists(strategies.values(policy), min_size=20, max_size=40)):
        at = draw(times)
        local = at.astimezone(ZoneInfo(zone))
        requests.append((values | {"hour": local.hour, "weekday": WEEKDAYS[local.weekday()]}, at))
    return policy, requests


@settings(max_examples=EXPENSIVE, phases=UNSHRUNK)
@given(cases())
def test_every_decision_is_found_again(place: Path, case: tuple[Policy, list[tuple[dict[str, Value], datetime]]]) -> None:
    """Splits, exploration, refusals, word sets, zones, open and optional members: from lines, and from the Parquet of them."""
    policy, requests = case
    live, folder, decisions, rows = compile_policy(policy), fresh(place), {}, []
    for number, (values, at) in enumerate(requests):
        made = live.given(values)
        name = f"r{number}"
        decisions[name] = live.decide(made)
        rows.append(row_of(served(policy, made, decisions[name], id=name, at=at, requested=str(values["requested"]))))
    segment(folder, rows)
    if len(rows) % 2:
        compact(folder, everything=True)
    check(policy, folder, decisions)


TEXTS = (
    "",
    "an OUTAGE today",
    "opening  hours?",
    "invoice 12",
    "Traceback (most recent call last)",
    "def f(x):\n    return x\n",
    "grüße \ud83d",
    "a\x00b",
)
HEADERS: dict[str, tuple[str, ...]] = {
    "x-plan": ("free", "pro", "gold", ""), "x-tenant": ("t1", "None", "null", "ünï", "a\x00b", "x" * 300), "x-escalate": ("1", "no"), "x-team": ("t", "none", "NaN"),
    "x-provider": ("anthropic", "openai", "x"), "x-api": ("chat", "batch", "missing"), "x-row": ("1", "9", "10", "-1", "1.0"), "x-verdict": ("passed", "v"),
    "x-tier": ("gold", "silver"), "x-grade": ("gold", "silver"), "x-rank": ("1", "4", "99"), "x-session": ("s1", "s2"), "x-beta": ("yes", "no", "0", "maybe"),
    "x-hour": ("0", "7", "23", "24"), "x-tokens": ("5", "4000", "90000"), "x-squad": ("blue", "undefined"), "x-stream": ("true", "0"),
}  # fmt: skip


@st.composite
def bodies(draw: Any) -> dict[str, Any]:
    """Bodies of the three APIs, with what a policy may look at."""
    text = st.sampled_from(TEXTS) | st.text(string.printable, max_size=40)
    spoken: list[dict[str, Any]] = [
        {"role": draw(st.sampled_from(["user", "assistant", "system"])), "content": draw(text)}
        for _ in range(draw(st.integers(0, 4)))
    ]
    if draw(st.booleans()):
        spoken += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": draw(st.sampled_from(["grep", "read_file", "\udc80x"])), "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": draw(st.sampled_from(["ok", "Error: no such file"]))},
        ]
    key = draw(st.sampled_from(["messages", "input"]))
    body: Row = {"model": draw(st.sampled_from(["a", "id-b", "id-c", "other", ""])), key: spoken}
    optional = {
        "user": st.sampled_from(["u1", "none", "\ud83d!", ""]), "stream": st.booleans(), "max_tokens": st.sampled_from([1, 500, 10**7, -1, "many"]), "instructions": text,
        "response_format": st.just({"type": "json_object"}), "tools": st.just([{"type": "function", "function": {"name": "grep", "parameters": {"type": "object"}}}]),
        "metadata": st.fixed_dictionaries({}, optional={"feature": st.sampled_from(["search", "draft", "missing", 7]), "seats": st.sampled_from(["3", 4, "x", 10**6]), "conversation_id": st.just("c9")}),
    }  # fmt: skip
    more: Row = draw(st.fixed_dictionaries({}, optional=optional))
    return body | more


@settings(max_examples=EXPENSIVE, phases=UNSHRUNK)
@given(strategies.policy_texts(), st.booleans(), st.sampled_from(ZONES), st.booleans(), st.data())
def test_every_decision_of_real_requests_is_found_again(
    place: Path, text: str, traps: bool, zone: str, prompts: bool, data: st.DataObject
) -> None:
    """Bodies and headers through the live reader. `traps` declares signals whose names and columns other columns have."""
    declared = f'policy generated\ntimezone "{zone}"\n' + (TRAPS if traps else "")
    before = data.draw(st.sampled_from(["otherwise {", "tier low"])) if traps else ""
    text = text.replace(before, TRAP_RULES + before) if traps else text
    policy = strategies.checked(text.replace("policy generated\n", declared))
    live, reader, folder = compile_policy(policy, bounds=True), Reader(policy), fresh(place)
    decisions, rows = {}, []
    headers = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in HEADERS.items()})
    for number, (body, sent, hours) in enumerate(
        data.draw(st.lists(st.tuples(bodies(), headers, st.integers(0, 24 * 400)), min_size=15, max_size=30))
    ):
        at, name = NOON + timedelta(hours=hours), f"r{number}"
        values = reader(Facts.of_body(body, sent, at, policy.timezone))
        decisions[name] = live.decide(values)
        facts = values.facts
        rows.append(row_of(
            served(
                policy, values, decisions[name], id=name, at=at, requested=str(body["model"]), user=facts.user or "", team="key's team" if number % 3 else facts.team or "",
                conversation=facts.conversation or "", stream=facts.stream is True, provider="openai", prompt=json.dumps(body).encode(), api="chat",
            ),
            prompts=prompts,
        ))  # fmt: skip
    segment(folder, rows)
    if len(rows) % 2:
        compact(folder, everything=True)
    check(policy, folder, decisions)


def test_a_reload_that_changes_a_type_changes_no_row(empty: Path) -> None:
    """Rows of two policies in one segment, whose signals of one name differ in type."""
    policies = [policy_from(f"signal plan : {type_}\nmodel a {{ id \"gpt-4o\" }}\nmodel b {{ id \"gpt-4o-mini\" }}\nrule r {{ when {when} then a }}\notherwise {{ then b }}\n") for type_, when in (
        ("int 0..9 = 1  from header \"x\"", "plan > 4"), ("free | pro = free  from header \"x\"", "plan is pro"), ("bool = false  from header \"x\"", "plan"))]  # fmt: skip
    sent = (("7", "2", ""), ("pro", "free", "x"), ("yes", "no", ""))
    rows: list[Row] = []
    wanted: dict[str, Decision] = {}
    for number, (policy, values) in enumerate(zip(policies, sent, strict=True)):
        for place, value in enumerate(values * 200):
            read = Reader(policy)(Facts.of_body({"messages": []}, {"x": value}))
            name = f"{number}-{place}"
            wanted[name] = compile_policy(policy).decide(read) if place < 3 else wanted[f"{number}-{place % 3}"]
            rows.append(row_of(served(policy, read, wanted[name], id=name)))
    segment(empty, rows)
    for _ in ("lines", "Parquet"):
        for number, policy in enumerate(policies[1:], 1):
            own = {row["request_id"]: row["rule"] for row in decided(policy, empty) if row["request_id"].startswith(f"{number}-")}
            assert own == {name: decision.rule for name, decision in wanted.items() if name.startswith(f"{number}-")}
        compact(empty, everything=True)


def test_another_words_file_is_scanned_anew(empty: Path) -> None:
    """A column is of the words, not of their name: a policy with other words finds nothing ready made, and says so."""
    text = 'words urgent = "{}"\nmodel a {{ id "gpt-4o" }}\nmodel b {{ id "gpt-4o-mini" }}\nrule r {{ when prompt has urgent then a }}\notherwise {{ then b }}\n'
    policy, other = policy_from(text.format("outage")), policy_from(text.format("flood"))
    for prompts in (False, True):
        folder = empty / str(prompts)
        body = {"messages": [{"role": "user", "content": "a flood, no OUTAGE"}]}
        values = Reader(policy)(Facts.of_body(body))
        decision = compile_policy(policy).decide(values)
        segment(folder, [row_of(served(policy, values, decision, prompt=json.dumps(body).encode()), prompts=prompts)])
        assert decided(policy, folder)[0]["rule"] == "r" == decision.rule
        found = decided(other, folder)[0]
        assert (found["class"] == "not replayable", found["rule"]) == (not prompts, "r")


def test_models_of_one_id_are_told_apart(empty: Path) -> None:
    policy = policy_from(
        'model a { provider openai id "x" in $1 out $1 }\nmodel b { provider azure id "x" in $2 out $2 }\nmodel c { id "x" in $3 out $3 }\notherwise { then a fallback b, c }\n'
    )
    made = [served(policy, compile_policy(policy).given({}), Decision("otherwise", (name,)), id=name) for name in "abc"]
    segment(empty, [row_of(each) for each in made])
    assert {row["request_id"]: row["old_model"] for row in decided(policy, empty)} == {name: name for name in "abc"}


# -- verdicts ------------------------------------------------------------------------------------------------------

VERDICTS = """
model a { provider openai  id "gpt-x"  in $1 out $2 }
model b { provider anthropic  id "claude-x"  in $3 out $4 }
rule no { when tokens > 1k then refuse "too long" }
otherwise { then a fallback b }
"""


def verdicts(policy: Policy) -> list[Row]:
    """One row of each verdict."""
    live = compile_policy(policy)
    small, large = live.given({"tokens": 10}), live.given({"tokens": 5_000})
    chosen = live.decide(small)
    failed = [Attempt("a", 0, 1, "503"), Attempt("b", 1, 1, "timeout"), Attempt("a", 2, 0, "skipped: circuit open")]
    used, paid = Usage(1_000, 100), Cost(1_200_000_000)
    made = [
        served(policy, small, chosen, id="answered", usage=used, cost=paid),
        served(policy, large, live.decide(large), id="refused", verdict="refused", status=403, error="refused", usage=None),
        served(policy, small, chosen, id="failed", verdict="failed", model="", status=503, error="unavailable", usage=None, attempts=failed),
        served(policy, small, chosen, id="rejected", status=400, error="invalid_request", usage=None),
        served(policy, small, chosen, id="cut", verdict="cut", error="cut", usage=used, cost=paid),
        served(policy, small, chosen, id="abandoned", verdict="abandoned", error="abandoned", usage=None),
        served(policy, small, chosen, id="fallback", model="b", usage=used, cost=Cost(3_400_000_000)),
        served(policy, small, chosen, id="cached", verdict="cached", usage=used, cost=paid, saved=1_200_000_000),
        served(policy, None, None, id="cached too", verdict="cached", usage=None, saved=300_000_000_000),
        served(policy, None, None, id="passed", verdict="passed", api="embeddings", model_id="text-embedding-3-small", usage=Usage(9)),
    ]  # fmt: skip
    return [row_of(each) for each in made]


@pytest.mark.parametrize("compacted", [False, True])
def test_every_verdict_has_its_place(empty: Path, compacted: bool) -> None:
    policy = policy_from(VERDICTS)
    segment(empty, verdicts(policy))
    if compacted:
        compact(empty, everything=True)
    target = empty.parent / "decisions.parquet"
    found = replay(policy, empty, output=target)
    rows = {row["request_id"]: row for row in pq.read_table(target).to_pylist()}
    assert {name: row["class"] for name, row in rows.items()} == {
        "answered": "exact", "refused": "refused", "failed": "exact", "rejected": "exact", "cut": "exact", "abandoned": "unpriceable", "fallback": "exact",
    }  # fmt: skip
    assert {name: row["old_model"] for name, row in rows.items()} == {
        "answered": "a", "refused": None, "failed": "b", "rejected": "a", "cut": "a", "abandoned": "a", "fallback": "b",
    }  # fmt: skip
    assert [rows[name]["old_cost_usd"] for name in ("answered", "failed", "rejected", "cut", "fallback")] == [
        Decimal("0.0012"), 0, 0, Decimal("0.0012"), Decimal("0.0034"),
    ]  # fmt: skip
    assert rows["fallback"]["changed"] and found["headline"]["rows"] == 5
    assert found["self_test"]["rows"] == 3 and found["self_test"]["error_usd"] in ("0", "0.000000000000")
    assert {note["code"]: note["rows"] for note in found["notes"]}.items() >= {"gateway-cache": 2, "passed-through": 1}.items()


def test_the_answer_cache_is_no_saving_of_routing(empty: Path) -> None:
    """Its requests are in one line, and in no other figure; without it the figures are the same."""
    policy = policy_from(VERDICTS)
    rows = verdicts(policy)
    segment(empty / "with", rows)
    segment(empty / "without", [row for row in rows if not row["answer_cached"]])
    found, other = replay(policy, empty / "with"), replay(policy, empty / "without")
    assert found["answer_cache"] == {"rows": 2, "not_spent_usd": "0.301200000000"}
    assert other["answer_cache"] is None
    told = (
        "headline",
        "interval",
        "waterfall",
        "costs",
        "accounting",
        "rules",
        "flows",
        "segments",
        "days",
        "risk",
        "self_test",
        "gates",
    )
    assert {name: found[name] for name in told} == {name: other[name] for name in told}
    assert sum(line["rows"] for line in found["accounting"]) == found["headline"]["rows_in_trace"] == found["trace"]["rows"] == 7


def test_the_report_says_what_the_answer_cache_saved(empty: Path) -> None:
    policy = policy_from(VERDICTS)
    segment(empty, verdicts(policy))
    console = Console(width=120, record=True, file=io.StringIO())
    simulation(replay(policy, empty), console)
    assert "answer cache: 2 requests, $0.301 not spent" in console.export_text()


def test_an_outage_is_in_the_calendar(empty: Path) -> None:
    """A failed request is a failure of the provider that was tried last."""
    policy = policy_from(VERDICTS)
    segment(empty, verdicts(policy)[2:3])
    connection = duckdb.connect()
    trace = open_trace(empty, connection=connection, scratch=empty.parent)
    (row,) = dicts(connection, trace.relation)
    assert (
        (row["provider"], row["model"], row["status_code"], row["served_model"]) == ("anthropic", "claude-x", 503, None)
        if "served_model" in row
        else True
    )
    assert (row["provider"], row["model"], row["status_code"], row["error_type"]) == ("anthropic", "claude-x", 503, "unavailable")


PROPENSITIES = [  # policy, decision, model, given propensity, kept
    ("", Decision("otherwise", ("a", "b")), "a", None, 1.0),
    ("", Decision("otherwise", ("a", "b")), "b", None, None),
    ("explore 10% by user\n", Decision("otherwise", ("a", "b"), propensity=0.9), "a", 0.9, 0.9),
    ("explore 10% by user\n", Decision("otherwise", ("a", "b"), propensity=0.9), "a", None, None),
    ("", Decision("otherwise", (), refused="no"), "", None, None),
    ("", Decision("otherwise", ("a", "b"), arm=1, propensity=0.2), "a", 0.7, 0.7),
]  # fmt: skip


@pytest.mark.parametrize(("more", "decision", "model", "known", "kept"), PROPENSITIES)
def test_the_propensity_is_of_the_model_that_answered(
    more: str, decision: Decision, model: str, known: float | None, kept: float | None
) -> None:
    policy = policy_from(f'model a {{ id "gpt-4o" }}\nmodel b {{ id "gpt-4o-mini" }}\notherwise {{ then a fallback b }}\n{more}')
    row = row_of(served(policy, compile_policy(policy).given({}), decision, model=model, propensity=known))
    assert (row.get("propensity"), row["decision_propensity"]) == (kept, decision.propensity)


# -- content -------------------------------------------------------------------------------------------------------

BODIES: dict[str, Json] = {
    "chat": {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": [{"type": "text", "text": "def f(x): return"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "response_format": {"type": "json_object"}},
    "messages": {"system": "be kind", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "grep", "input": {"q": 1}}]}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "Error: none", "is_error": True}]}], "tools": [{"name": "grep", "input_schema": {"type": "object"}}]},
    "responses": {"instructions": "be kind", "input": [{"role": "user", "content": "hi"}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": "ok"}], "text": {"format": {"type": "json_schema", "schema": {}}}},
    "responses text": {"input": "hello there"},
    "nothing": {"messages": [], "tools": []},
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_kept_content_says_what_the_body_said(name: str) -> None:
    """Extracted from the row's columns, every signal is that of the live body."""
    policy = policy_from(FULL)
    row = row_of(served(policy, prompt=json.dumps(BODIES[name]).encode(), answer=b""), prompts=True)
    live, kept = Facts.of_body(BODIES[name]), Facts.of_row(row["messages"], row["tools"], row.get("response_format"))
    told = ("tokens", "last_tokens", "turns", "steps", "tools", "tool", "tool_failed", "images", "code", "prompt", "last", "system")
    assert {each: getattr(kept, each) for each in told} == {each: getattr(live, each) for each in told}
    assert (kept.json or False) == live.json


ANSWERS = [
    (b'{"choices": [{"message": {"role": "assistant", "content": "hi"}}]}', '{"role":"assistant","content":"hi"}'),
    (
        b'{"type": "message", "content": [{"type": "text", "text": "hi"}]}',
        '{"role":"assistant","content":[{"type":"text","text":"hi"}]}',
    ),
    (b'{"output": [{"type": "message", "content": []}]}', '[{"type":"message","content":[]}]'),
    (b"plain text \xff", "plain text �"),
    (b'{"error": {"message": "no"}}', '{"error":{"message":"no"}}'),
]


@pytest.mark.parametrize(("answer", "output"), ANSWERS)
def test_kept_answer(answer: bytes, output: str) -> None:
    assert row_of(served(policy_from(FULL), answer=answer), prompts=True)["output"] == output


def test_content_is_kept_only_when_asked_for() -> None:
    row = row_of(full(policy_from(FULL)))
    assert {"messages", "tools", "response_format", "output"}.isdisjoint(row)
    assert "outage" in str(row_of(full(policy_from(FULL)), prompts=True)["messages"])


REDACTED = [
    ("write to jo.e+x@mail.example.org!", "write to [email]!"),
    ("call +49 (0)30 1234567, or (555) 123-4567", "call [phone], or [phone]"),
    ("card 4111 1111 1111 1111 or 5500-0000-0000-0004", "card [card] or [card]"),
    ("key sk-proj-abcdefghijklmnop1234 and AKIAIOSFODNN7EXAMPLE", "key [key] and [key]"),
    ("Authorization: Bearer abcdefghijklmnop.qrstuv", "Authorization: Bearer [key]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "[key]"),
    ("2026-11-25 10:15:00 order 4711, 3.14159265358979, 1234567890123", "2026-11-25 10:15:00 order 4711, 3.14159265358979, 1234567890123"),
    ("half \ud83d of a@b.example", "half \ufffd of [email]"),
    ("Straße 12, grüße", "Straße 12, grüße"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "left"), REDACTED)
def test_built_in_redaction(text: str, left: str) -> None:
    assert built_in(text) == left


def test_redaction_sees_every_string_of_content() -> None:
    """Arguments of calls, results, schemas' descriptions, the answer; roles, types and ids are shape, and stay."""
    secret = "jane@corp.example"
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": secret}]},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": secret})}}]},
            {"role": "tool", "tool_call_id": "c1", "content": f"sent to {secret}"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": f"mails {secret}", "parameters": {"enum": [secret]}}}],
    }  # fmt: skip
    answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": f"done, {secret}"}}]}).encode()
    row = row_of(served(policy_from(FULL), prompt=json.dumps(body).encode(), answer=answer), prompts=True, redact=built_in)
    text = json.dumps(row)
    assert secret not in text and text.count("[email]") == 6
    assert Facts.of_row(row["messages"], row["tools"]).tool == "f"


def test_a_hook_that_fails_withholds_the_content() -> None:
    def hook(text: str) -> str:
        raise KeyError(text)

    row = row_of(full(policy_from(FULL)), prompts=True, redact=hook)
    assert row["withheld"] == "the redaction hook failed"
    assert "messages" not in row and "outage" not in json.dumps(row) and row["decision_rule"] == "hot"


def test_a_hook_by_name() -> None:
    assert redactor("") is built_in
    assert redactor("string:capwords")("two words") == "Two Words"
    for name in ("nowhere:f", "string:nothing", "string:digits", "string", ":"):
        with pytest.raises(ServeError, match="redaction hook"):
            redactor(name)


# -- limits --------------------------------------------------------------------------------------------------------


def test_a_row_without_content_is_small() -> None:
    """Whatever a caller sends as its keys."""
    policy = policy_from(FULL)
    huge = "\x00" * 5_000_000
    body = {"messages": [{"role": "user", "content": huge}], "user": huge, "model": huge}
    values = Reader(policy)(Facts.of_body(body, {"x-conversation-id": huge}))
    row = row_of(
        served(
            policy,
            values,
            Decision("otherwise", ("a", "b")),
            user=huge,
            conversation=huge,
            requested=huge,
            error=huge,
            prompt=json.dumps(body).encode(),
        )
    )
    assert len(line_of(row)) <= LARGEST
    assert "user_id" in str(row["shortened"]) and row["decision_chain"] == "a,b"


def test_a_scan_that_fails_is_null() -> None:
    """RE2 may run out of memory for words that the decision didn't need."""
    policy = policy_from(FULL)

    class Failing:
        facts = None
        odd = frozenset({"plan"})

        def __getattr__(self, name: str) -> object:
            if "_HAS_" in name:
                raise ScannerError("out of memory")
            return "pro" if name == "s_plan" else 1

    row = row_of(served(policy, Failing(), Decision("otherwise", ("a",))))
    assert [value for name, value in row.items() if " has " in name] == [None]
    assert (row["user_plan"], row["odd_signals"]) == ("pro", "plan")


LINES: list[tuple[object, object]] = [
    ("half \ud83d", "half ?"), ("\x00", "\x00"), (2**70, 2**70), (Decimal("0.1"), "0.1"), ("\u2028\n", "\u2028\n"), (None, None), (0.1, 0.1), (True, True),
]  # fmt: skip


@pytest.mark.parametrize(("value", "read"), LINES)
def test_lines(value: object, read: object) -> None:
    line = line_of({"a": value})
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert row_of_line(line) == {"a": read}
    assert row_of_line(line[:-1]) is None


@pytest.mark.parametrize("line", [b"\n", b"[1]\n", b'{"a": \n', b"\x00\x00\n", b"\xff\n", b'{"a": 1}'])
def test_a_line_that_is_not_whole(line: bytes) -> None:
    assert row_of_line(line) is None


# -- what a replay reads -------------------------------------------------------------------------------------------

READING = """
signal plan : free | pro = free  from header "x-plan", column "user_plan"
signal provider : openai | azure = openai  from header "x-provider"
signal hour : int 0..23  from header "x-hour"
words urgent = "outage"
classifier level : easy | hard { ask a prompt "Easy?" on failure hard }
model a { id "gpt-4o" }
rule r { when prompt has urgent and level is easy then a }
otherwise { then a }
"""
URGENT = kept_scan("prompt", TextSet("another name", ("outage",)))
EXTRACTED_URGENT = f"{EXTRACTED}prompt has urgent"
READ: list[tuple[str, dict[str, list[Any]], list[Any], str]] = [  # signal, columns, values, where from
    ("prompt has urgent", {URGENT: [True, None]}, [True, None], f"column `{URGENT}`"),
    ("prompt has urgent", {URGENT: [True, None], EXTRACTED_URGENT: [False, False]}, [True, False], f"column `{URGENT}`, else scanned in the messages"),
    ("prompt has urgent", {"prompt has urgent": [True]}, [None], "not in the trace: it holds no messages"),
    ("plan", {"signal plan": ["pro", None], "user_plan": ["free", "pro"]}, ["pro", "pro"], "column `signal plan`, else column `user_plan`"),
    ("provider", {"provider": ["openai"], "signal provider": ["azure"]}, ["azure"], "column `signal provider`, else column `provider`"),
    ("tokens", {"signal tokens": [5, None], "tokens": [6, 7]}, [5, 7], "column `signal tokens`, else column `tokens`"),
    ("hour", {"signal hour": [5, 99, None]}, [5, 23, None], "column `signal hour`"),
    ("level", {"level": ["easy", "odd", None]}, ["easy", None, None], "column `level`"),
    ("level", {"input_tokens": [1]}, [None], "not in the trace: nobody has asked the classifier"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "columns", "values", "source"), READ, ids=[f"{number}-{case[0]}" for number, case in enumerate(READ)]
)
def test_what_a_replay_reads(name: str, columns: dict[str, list[Any]], values: list[Any], source: str) -> None:
    held = frozenset(column for column in columns if not column.startswith(EXTRACTED))
    extracted = frozenset(column.removeprefix(EXTRACTED) for column in columns if column.startswith(EXTRACTED))
    found = observe(policy_from(READING), [name], Available(held, extracted), {})[name]
    connection = duckdb.connect()
    connection.register("given", pa.table({"place": list(range(len(values))), **columns}))
    assert [value for (value,) in connection.sql(f"SELECT {found.sql} FROM given ORDER BY place").fetchall()] == values
    assert found.source == source


def test_a_ready_made_scan_needs_no_messages() -> None:
    policy = policy_from(READING)
    assert wanted_content(policy, ["prompt has urgent"], {"messages"}) == ("prompt has urgent",)
    assert wanted_content(policy, ["prompt has urgent"], {"messages", URGENT}) == ()
    assert [want.kept for want in wanted(policy, ["prompt has urgent"])] == [URGENT]
