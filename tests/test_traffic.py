"""Conditions counted in real traffic: the same as the reference says row by row, exact money, the nearest request, the unknown apart."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.language.limits import read_signals
from policyroute.language.policy import BoolType, EnumType, Expression, IntType, KeyType, Policy, Read, Signal, TextType, Value
from policyroute.language.reference import decide, evaluate
from policyroute.replay.options import Options
from policyroute.replay.traces import TraceError
from policyroute.replay.traffic import Traffic, traffic
from policyroute.signals.kept import kept_scan, kept_signal
from tests import strategies
from tests.simulate_support import ROOT, SHARED, catalog, policy_from, policy_of

MODELS = """model a { provider openai id "id-a" in $1 out $2 }
model b { provider openai id "id-b" in $10 out $20 }
"""
POLICY = (
    MODELS
    + """
signal plan : free | pro = free  from column "user_plan"
words urgent = "outage"
rule urgent { when prompt has urgent and plan is pro then b }
rule long   { when tokens > 1k then b }
rule tools  { when tool is grep then refuse "no" }
otherwise   { then a }
"""
)
ROWS: list[dict[str, Any]] = [
    {"request_id": f"r{number}", "model": "id-a", "provider": "openai", "input_tokens": tokens, "output_tokens": 10, "user_plan": plan, "tool": tool,
     "messages": [{"role": "user", "content": text}]}
    for number, (tokens, plan, tool, text) in enumerate([
        (100, "free", "none", "We have an outage"), (200, "pro", "none", "An outage"), (2_000, "pro", "none", "Hello"), (300, "free", "none", "Hello"),
        (400, "pro", "grep", "Hello"), (3_000, "free", "search", "Hello"), (250, "pro", "none", "outage again"),
    ])
]  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path


def counted(
    text: str, path: Path | Sequence[Path], *numbers: int, witness: Mapping[str, Value] | None = None, **options: Any
) -> list[Traffic]:
    """The traffic of some rules' conditions."""
    policy = policy_from(text)
    conditions = [policy.rules[number].condition for number in numbers]
    paths = [path] if isinstance(path, Path) else path
    return traffic(policy, conditions, paths, catalog(), Options(**options), witnesses=[witness] * len(numbers) if witness else ())


# -- what is counted ---------------------------------------------------------------------------------------------------


def test_rows_and_money(trace: Path) -> None:
    """Rows, what they cost under the policy and as recorded: sums of tokens times prices."""
    urgent, long, tools, every = counted(POLICY, trace, 0, 1, 2, 3)
    dollar_a, dollar_b = 10**6, 10**7  # picodollars for an input token
    assert (urgent.rows, urgent.of, urgent.unknown_rows, urgent.share) == (2, 7, 0, Fraction(2, 7))
    assert urgent.dollars == (200 + 250) * dollar_b + 2 * 10 * 2 * dollar_b and urgent.priced_rows == 2
    assert urgent.paid == (200 + 250) * dollar_a + 2 * 10 * 2 * dollar_a and urgent.paid_rows == 2
    assert (long.rows, long.dollars) == (2, 5_000 * dollar_b + 2 * 10 * 2 * dollar_b)
    assert (tools.rows, tools.dollars, tools.priced_rows, tools.paid_rows) == (1, 0, 0, 1)  # refused: it costs nothing
    assert (every.rows, every.nearest) == (7, None)


def test_several_files_are_one(trace: Path, tmp_path: Path) -> None:
    """A trace in parts has the figures, and the nearest request, of the whole."""
    lines = trace.read_text("utf-8").splitlines(keepends=True)
    parts = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    parts[0].write_text("".join(lines[:3]), "utf-8")
    parts[1].write_text("".join(lines[3:]), "utf-8")
    near: dict[str, Value] = {"plan": "pro", "tokens": 250, "prompt has urgent": True}
    assert counted(POLICY, parts, 0, 1, 3, witness=near) == counted(POLICY, trace, 0, 1, 3, witness=near)


NEAR: dict[str, tuple[int, dict[str, Value], str, int]] = {
    "all alike": (0, {"tokens": 250, "plan": "pro", "prompt has urgent": True}, "r6", 0),
    "the first of several": (0, {"tokens": 7, "plan": "pro", "prompt has urgent": True}, "r1", 1),
    "the fewest that differ": (3, {"tokens": 400, "plan": "free", "tool": "grep"}, "r4", 1),
    "a member that no policy names is as good as another": (1, {"tool": "another_one", "plan": "free"}, "r5", 0),
}


@pytest.mark.parametrize("name", NEAR)
def test_nearest(trace: Path, name: str) -> None:
    """Of the requests for which the condition holds, the one with the fewest signals that differ."""
    rule, witness, request, differing = NEAR[name]
    (found,) = counted(POLICY, trace, rule, witness=witness)
    assert found.nearest and (found.nearest.request_id, found.nearest.differing) == (request, differing)
    assert found.nearest.text is None and found.nearest.values["tokens"] == ROWS[int(request[1:])]["input_tokens"]


def test_text_is_read_where_it_is_asked_for(trace: Path) -> None:
    (found,) = counted(POLICY, trace, 0, witness={"tokens": 200}, with_text=True)
    assert found.nearest and found.nearest.text == "An outage"


def test_nothing_is_near_where_nothing_is(trace: Path) -> None:
    """A condition that no request fulfils has no nearest one."""
    text = POLICY.replace("tokens > 1k", "tokens > 100k")
    (found,) = counted(text, trace, 1, witness={"tokens": 5})
    assert (found.rows, found.nearest) == (0, None) and not found.share


def test_what_the_trace_does_not_tell_is_apart(tmp_path: Path) -> None:
    """Without messages no text is known: a request counts only where the rest of the condition decides; `assume` fills it."""
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "messages"}) + "\n" for row in ROWS), "utf-8")
    (found,) = counted(POLICY, path, 0)
    assert (found.rows, found.unknown_rows) == (0, 4)  # plan is pro in four; the others are none of it
    (found,) = counted(POLICY, path, 0, assume={"prompt has urgent": True})
    assert (found.rows, found.unknown_rows) == (4, 0)
    (told,) = counted(POLICY, path, 1, witness={"tokens": 2_000, "prompt has urgent": False, "plan": "pro"})
    assert told.nearest and told.nearest.differing == 1 and told.nearest.values["prompt has urgent"] is None


def test_a_condition_may_read_what_no_rule_reads(trace: Path) -> None:
    """A guarantee's condition is counted too, and decisions stay as they are."""
    policy = policy_from(POLICY + "guarantee g : never a when turns > 0\n")
    (guarantee,) = policy.guarantees
    assert "turns" not in read_signals(policy)
    (found,) = traffic(policy, [guarantee.condition], [trace], catalog(), Options())
    (every,) = counted(POLICY, trace, 3)
    assert (found.rows, found.dollars) == (7, every.dollars)


def test_state_is_left_out_of_account(trace: Path) -> None:
    """A policy with state is counted as one without."""
    text = POLICY + "sticky by conversation for 30min { never downgrade }\norder cheap < dear\ntier cheap = a\ntier dear = b\n"
    assert counted(text, trace, 0, 1) == counted(POLICY, trace, 0, 1)


def test_many_conditions(trace: Path) -> None:
    """More conditions than one query asks."""
    policy = policy_from(POLICY)
    conditions: list[Expression] = [policy.rules[0].condition, policy.rules[1].condition] * 60
    found = traffic(policy, conditions, [trace], catalog(), Options())
    assert found == [*found[:2]] * 60 and traffic(policy, [], [trace], catalog(), Options()) == []


def test_a_trace_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        counted(POLICY, tmp_path / "nothing.jsonl", 0)


# -- against the reference ---------------------------------------------------------------------------------------------

TYPES: dict[type, Any] = {IntType: pa.int64(), BoolType: pa.bool_()}


def column(policy: Policy, signal: Signal) -> str:
    return kept_scan(signal.text, policy.texts[signal.words]) if signal.kind == "match" else kept_signal(signal.name)


def written(policy: Policy, rows: Sequence[Mapping[str, Value]], path: Path) -> None:
    """A trace that holds each signal ready made."""
    signals = [signal for signal in policy.signals.values() if not isinstance(signal.type, TextType)]
    columns = {
        column(policy, signal): pa.array([row[signal.name] for row in rows], TYPES.get(type(signal.type), pa.string()))
        for signal in signals
    }
    billed = {
        "model": pa.array(["id-a"] * len(rows)),
        "input_tokens": pa.array([7] * len(rows)),
        "output_tokens": pa.array([1] * len(rows)),
    }
    pq.write_table(pa.table(columns | billed), path)


def apart(policy: Policy, row: Mapping[str, Value], witness: Mapping[str, Value]) -> int:
    """Signals that differ, as the policy tells values apart."""

    def seen(name: str, value: Value) -> Value:
        type_ = policy.signals[name].type
        return "another" if isinstance(type_, EnumType) and type_.open and value not in type_.all else value

    names = [name for name in read_signals(policy) if not isinstance(policy.signals[name].type, KeyType)]
    return sum(seen(name, row[name]) != seen(name, witness[name]) for name in names)


@settings(max_examples=25)
@given(st.data())
def test_counts_are_the_references(data: st.DataObject) -> None:
    """Rows, nearest request and priced rows of generated policies' conditions, told row by row by the reference."""
    policy = data.draw(strategies.policies)
    rows = data.draw(st.lists(strategies.values(policy), min_size=1, max_size=12))
    witness = data.draw(strategies.values(policy))
    conditions: list[Expression] = [rule.condition for rule in policy.rules]
    conditions += [Read(name) for name in ("images", "prompt has urgent") if name in read_signals(policy)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        written(policy, rows, path)
        found = traffic(policy, conditions, [path], catalog(), Options(), witnesses=[witness] * len(conditions))
    for condition, told in zip(conditions, found, strict=True):
        held = [number for number, row in enumerate(rows) if evaluate(condition, row)]
        assert (told.rows, told.of, told.unknown_rows) == (len(held), len(rows), 0)
        routed = [number for number in held if decide(policy, rows[number]).chain]
        assert (told.priced_rows, told.paid_rows) == (len(routed), len(held))
        near = min(((apart(policy, rows[number], witness), number) for number in held), default=None)
        assert near == ((told.nearest.differing, told.nearest.row) if told.nearest else None)


@pytest.mark.parametrize("name", ["support", "saas", "coding"])
def test_the_examples(name: str) -> None:
    """Each example's rules counted alone over its trace: `otherwise` takes all, and what differs from the nearest is what is said."""
    policy = policy_of(f"policies/{name}.route")
    conditions = [rule.condition for rule in policy.rules]
    defaults = {name: signal.default for name, signal in policy.signals.items() if not isinstance(signal.type, TextType)}
    found = traffic(
        policy, conditions, [ROOT / f"traces/{name}.parquet"], catalog(), Options(), witnesses=[defaults] * len(conditions)
    )
    assert found[-1].rows == found[-1].of and all(told.rows + told.unknown_rows <= told.of for told in found)
    for condition, told in zip(conditions, found, strict=True):
        if told.nearest:
            assert told.nearest.differing == sum(defaults[name] != value for name, value in told.nearest.values.items())
            assert None in told.nearest.values.values() or evaluate(
                condition, defaults | {name: value for name, value in told.nearest.values.items() if value is not None}
            )


@pytest.mark.skipif(not (SHARED / "data" / "azure_2023").exists(), reason="needs ../shared/data")
def test_a_trace_without_text() -> None:
    """Azure's trace has tokens and times only: what asks for more is unknown there."""
    path = next((SHARED / "data" / "azure_2023").glob("*.csv*"))
    text = (
        MODELS
        + 'words urgent = "outage"\nrule long { when tokens > 1k then b }\nrule urgent { when prompt has urgent then b }\notherwise { then a }\n'
    )
    long, urgent = counted(text, path, 0, 1, incumbent="gpt-4o")
    assert 0 < long.rows < long.of and (urgent.rows, urgent.unknown_rows) == (0, urgent.of)
