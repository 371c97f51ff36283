"""A replay piece by piece: accounting classes, baselines, what stands in for an unknown price, parts without rows, odd names."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from policyroute.cli import cli
from policyroute.replay.ledger import CLASSES
from policyroute.replay.measures import FACTS, MEASURES, Measure, Table, merge
from policyroute.replay.options import SimulationError
from policyroute.replay.traces import TraceError
from tests.simulate_support import Json, policy_from, replay

ROOT = Path(__file__).parents[1]

TWO = """
model mini  { provider openai  id "mini-1"  in $1  out $2  cached $0.50 }
model big   { provider openai  id "big-1"   in $10 out $20 }
"""
SIZES = TWO + "rule short { when tokens < 100 then mini }\notherwise { then big }\n"

Write = Callable[..., Path]


@pytest.fixture
def trace(tmp_path: Path) -> Write:
    """Writes calls as JSON lines."""

    def write(*calls: dict[str, Any], name: str = "trace") -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(call) + "\n" for call in calls), "utf-8")
        return path

    return write


def call(tokens: int | None = 50, output: int | None = 10, model: str | None = "big-1", **more: Any) -> dict[str, Any]:
    return {
        "ts": "2026-05-01T10:00:00Z",
        "provider": "openai",
        "model": model,
        "input_tokens": tokens,
        "output_tokens": output,
        **more,
    }


def classes(found: Json) -> dict[str, int]:
    return {line["class"]: line["rows"] for line in found["accounting"] if line["rows"]}


def why(found: Json, class_: str) -> list[str]:
    (line,) = [line for line in found["accounting"] if line["class"] == class_]
    return list(line["why"])


# -- accounting ----------------------------------------------------------------------------------------------------


def test_every_row_is_in_one_class(trace: Write) -> None:
    policy = policy_from(
        TWO + 'model vague { id "nobody-sells-this" }\n'
        "forbid mini when tokens > 90 and tokens < 100\nrule no { when tokens > 1k then refuse \"no\" }\n"
        "rule unpriced { when tokens == 70 then vague }\nrule short { when tokens < 100 then mini }\n"
        "rule deep { when turns > 3 then mini }\notherwise { then big }\n"
    )  # fmt: skip
    found = replay(policy, trace(
        call(50), call(50, cached_tokens=40, model="mini-1"), call(50, model="gpt-4-32k-unheard", cost_usd=0.5), call(50, model="gpt-4-32k-unheard", cost_usd=0),
        call(70), call(95), call(2_000), call(500), call(None), call(50, output=None),
    ))  # fmt: skip
    assert classes(found) == {"exact": 2, "fallback": 1, "unpriceable": 3, "unroutable": 1, "refused": 1, "not replayable": 2}
    assert [line["class"] for line in found["accounting"]] == list(CLASSES)
    assert why(found, "fallback") == ["price unknown: the recorded cost used"]
    assert why(found, "refused") == ["rule `no` refuses"]
    assert why(found, "unroutable") == ["rule `short` is left without a model"]
    assert "rule `deep` reads `turns`" in why(found, "not replayable")
    baseline, routed = why(found, "unpriceable")
    assert "what the baseline calls: big, gpt-4-32k-unheard (`--prices FILE`" in baseline
    assert "what the policy calls: vague (`--prices FILE`" in routed


def test_a_recorded_zero_is_no_price(trace: Write) -> None:
    """Tools write 0 for a model that they can't price; taken as its cost it would turn every route into a loss."""
    found = replay(policy_from(SIZES), trace(call(model="ollama/REDACTED", cost_usd=0), call(cost_usd=0.0007)))
    assert classes(found) == {"exact": 1, "unpriceable": 1}
    assert found["headline"]["baseline_usd"] == "0.000700000000"


def test_a_suspect_cost_belongs_in_no_sum(trace: Write) -> None:
    """$9,990.01 for a small call, as a real log had it: neither in the self-test nor in place of a price."""
    found = replay(
        policy_from(SIZES), trace(call(cost_usd=9990.01), call(model="unheard-of", cost_usd=9990.01), call(cost_usd=0.0007))
    )
    assert classes(found) == {"exact": 2, "unpriceable": 1}
    assert (found["self_test"]["rows"], found["self_test"]["recorded_usd"]) == (1, "0.000700000000")


def test_self_test_tells_the_error_of_the_prices(trace: Write) -> None:
    found = replay(
        policy_from(SIZES),
        trace(call(cost_usd=0.0008), call(cost_usd=0.0006), call(cost_usd=0.0007), call(model="unheard-of", cost_usd=1)),
    )
    test = found["self_test"]
    assert (test["rows"], test["recorded_usd"], test["recomputed_usd"]) == (3, "0.002100000000", "0.002100000000")
    assert (test["error_percent"], test["row_error_percent"], test["rows_within_half_percent"]) == ("0.00", "9.52", 1)


def test_failed_calls_cost_nothing_on_both_sides(trace: Write) -> None:
    found = replay(
        policy_from(SIZES), trace(call(status_code=200), call(status_code=429), call(status_code=500, output=None)), failures=False
    )
    assert classes(found) == {"exact": 3}
    assert (found["headline"]["baseline_usd"], found["headline"]["routed_usd"]) == ("0.000700000000", "0.000070000000")
    assert "calls that failed at the provider cost nothing, before and after" in found["assumptions"]


def test_cached_input(trace: Write) -> None:
    """Cached stays cached in the first figure; in the second a changed model pays the full rate, a kept one doesn't."""
    policy = policy_from(SIZES)
    head = replay(policy, trace(call(90, 0, cached_tokens=80), call(90, 0, cached_tokens=80, model="mini-1")))["headline"]
    assert head["baseline_usd"] == "0.000950000000"  # 90 at $10, then 10 at $1 and 80 at $0.50
    assert head["routed_usd"] == "0.000100000000"
    assert head["saving_without_cache_usd"] == "0.000810000000"
    assert "saving_without_cache_usd" not in replay(policy, trace(call()))["headline"]


def test_usage_is_counted_where_none_is_recorded(trace: Write) -> None:
    calls = [{"model": "big-1", "messages": [{"role": "user", "content": "hello there"}], "output": "two words"}]
    found = replay(policy_from(SIZES), trace(*calls))
    assert classes(found) == {"fallback": 1}
    assert "no usage recorded: tokens counted from the text" in why(found, "fallback")
    assert Decimal(found["headline"]["baseline_usd"]) > 0


# -- baselines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "usd"),
    [("recorded", "0.000770000000"), ("requested", "0.000140000000"), ("big", "0.001400000000"), ("mini", "0.000140000000")],
)
def test_baseline(trace: Write, baseline: str, usd: str) -> None:
    path = trace(call(requested_model="mini-1"), call(model="mini-1"))
    found = replay(policy_from(SIZES), path, baseline=baseline)
    assert (found["baseline"], found["headline"]["baseline_usd"]) == (baseline, usd)


def test_baseline_of_another_policy(trace: Write) -> None:
    """Both decide every request; models of the same name and price are the same model."""
    other = policy_from(SIZES.replace("tokens < 100", "tokens < 60"))
    found = replay(policy_from(SIZES), trace(call(50, 0), call(80, 0), call(200, 0)), baseline_policy=other)
    assert found["baseline"].startswith("policy example (")
    assert (found["headline"]["changed"], found["headline"]["saving_usd"]) == (1, "0.000720000000")
    assert {(line["from"], line["to"]): line["rows"] for line in found["flows"]} == {
        ("mini", "mini"): 1,
        ("big", "mini"): 1,
        ("big", "big"): 1,
    }


def test_a_baseline_has_its_own_state(trace: Write) -> None:
    """The other policy's quota takes the third large request to the small model; ours leaves it where it was."""
    other = policy_from(SIZES + "quota few { 2 per day by user of big when tokens > 5 then mini }\n")
    path = trace(call(500, 1), call(500, 2), call(500, 3))
    found = replay(policy_from(SIZES), path, baseline_policy=other)
    assert {(line["from"], line["to"]): line["rows"] for line in found["flows"]} == {("big", "big"): 2, ("mini", "big"): 1}
    assert found["state"] is None


def test_state_needs_times(trace: Write) -> None:
    policy = policy_from(SIZES + "quota few { 2 per day by user of big then mini }\n")
    path = trace({name: value for name, value in call(500).items() if name != "ts"})
    with pytest.raises(SimulationError, match="`quota few` can't be replayed: the trace has no times"):
        replay(policy, path)
    assert replay(policy, path, without=["quota"])["state"] is None


# -- names ---------------------------------------------------------------------------------------------------------


def test_columns_and_signals_may_have_the_names_of_our_own(trace: Write, tmp_path: Path) -> None:
    """A signal `class`, a column `rule`: both are kept beside the decision's columns, and don't replace them."""
    policy = policy_from("signal class : a | b = a\nsignal arm : bool = false\n" + SIZES)
    path = trace({**call(), "class": "b", "rule": "theirs", "arm": True, "row": 7})
    found = replay(policy, path, by=["rule", "input_tokens"], output=tmp_path / "out.parquet")
    assert [line["member"] for line in found["segments"]["class"]["top"]] == ["b"]
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (row["class"], row["rule"], row["arm"], row["input_tokens"], row["row"]) == ("exact", "short", None, 50, 0)
    assert (row["by class"], row["by rule"], row["by arm"], row["by input_tokens"]) == ("b", "theirs", "true", "50")


def test_labels_with_quotes(trace: Write, tmp_path: Path) -> None:
    path = trace(call(model="it's", user_id='a"b'), call(user_id="it's"))
    found = replay(policy_from(SIZES), path, output=tmp_path / "it's.parquet")
    assert {line["member"] for line in found["segments"]["user_id"]["top"]} == {"it's"}
    assert pq.read_table(tmp_path / "it's.parquet")["old_model"].to_pylist() == ["it's", "big"]


def test_metadata_that_is_no_json_is_no_value(tmp_path: Path) -> None:
    table = pa.table(
        {"model": ["big-1"] * 3, "input_tokens": [5] * 3, "output_tokens": [5] * 3, "metadata": ["hello", '{"plan": "pro"}', None]}
    )
    pq.write_table(table, tmp_path / "trace.parquet")
    policy = policy_from('signal plan : free | pro = free  from metadata "plan"\n' + SIZES)
    found = replay(policy, tmp_path / "trace.parquet")
    assert {line["member"]: line["rows"] for line in found["segments"]["plan"]["top"]} == {"free": 2, "pro": 1}


# -- rules ---------------------------------------------------------------------------------------------------------


def test_takes_and_alone(trace: Write) -> None:
    policy = policy_from(
        TWO
        + "rule first { when tokens < 60 then mini }\nshadow rule dark { when tokens < 80 then mini }\nrule second { when tokens < 100 then mini }\notherwise { then big }\n"
    )
    found = replay(policy, trace(call(50), call(70), call(90), call(200)))
    assert {line["rule"]: (line["takes"], line["alone"]) for line in found["rules"]} == {
        "first": (1, 1), "dark": (1, 2), "second": (2, 3), "otherwise": (1, 4),
    }  # fmt: skip


def test_unknown_signals_never_decide(trace: Write) -> None:
    """`tokens < 60 or code` is true of a short prompt, whatever its text was."""
    policy = policy_from(TWO + "rule either { when tokens < 60 or code then mini }\notherwise { then big }\n")
    found = replay(policy, trace(call(50), call(70)))
    assert classes(found) == {"exact": 1, "not replayable": 1}
    assert why(found, "not replayable") == ["rule `either` reads `code`"]
    assert classes(replay(policy, trace(call(50), call(70)), assume={"code": False})) == {"exact": 2}


# -- parts ---------------------------------------------------------------------------------------------------------


def test_a_part_without_calls_changes_nothing(tmp_path: Path) -> None:
    """One file of an analytics log may hold other events only."""
    policy = policy_from(TWO + 'words hi = "hello"\nrule greeting { when last has hi then mini }\notherwise { then big }\n')
    rows = {
        "model": ["big-1"] * 2,
        "input_tokens": [5, 6],
        "output_tokens": [5, 5],
        "messages": ['[{"role": "user", "content": "hello"}]'] * 2,
    }
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    pq.write_table(pa.table(rows).slice(0, 0), tmp_path / "b.parquet")
    both = replay(policy, [tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert both["trace"]["rows"] == 2
    assert both["headline"] == replay(policy, tmp_path / "a.parquet")["headline"]
    assert [line["takes"] for line in both["rules"]] == [2, 0]


def test_nothing_but_other_events_is_no_trace(trace: Write) -> None:
    with pytest.raises(TraceError):
        replay(policy_from(SIZES), trace({"event": "started"}))


def test_tables_merge_without_order() -> None:
    measures: tuple[Measure, ...] = (MEASURES[0], next(measure for measure in MEASURES if measure.name == "old_bits"))
    parts: list[Table] = [{("a",): (1, 1)}, {("a",): (2, 4), ("b",): (5, 0)}, {}]
    assert merge(parts, measures) == merge(parts[::-1], measures) == {("a",): (3, 5), ("b",): (5, 0)}
    assert merge([merge(parts[:2], measures), parts[2]], measures) == merge(parts, measures)
    assert {measure.name for measure in FACTS} >= {"rows", "recorded", "recomputed"}


def test_sums_beyond_64_bits_are_exact(trace: Write) -> None:
    """Ten million dollars are 10**19 picodollars."""
    dear = policy_from('model gold { id "gold-1"  in $900000  out $900000 }\notherwise { then gold }')
    found = replay(dear, trace(*(call(999_999_999 - place, 0, model="gold-1", request_id=str(place)) for place in range(20))))
    assert (
        found["headline"]["baseline_usd"]
        == str(sum(Decimal(999_999_999 - place) for place in range(20)) * Decimal("0.9")) + "00000000000"
    )


def test_rules_that_never_fired_are_named() -> None:
    """In the terminal and in Markdown; not named where every rule took something."""
    for trace, idle in (("support", True), ("coding", False)):
        command = ["simulate", str(ROOT / "traces" / f"{trace}.parquet"), "--policy", str(ROOT / "policies" / f"{trace}.route")]
        told = CliRunner().invoke(cli, command).output, CliRunner().invoke(cli, [*command, "--format", "markdown"]).output
        assert [text.lower().count("never fired on these requests") for text in told] == [int(idle), int(idle)]
        assert not idle or ("never fired on these requests: endless_thread" in told[0] and "`endless_thread`." in told[1])
