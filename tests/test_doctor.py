"""`doctor`: what a trace can and cannot carry, as figures and as sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from policyroute.cli import COMMANDS, cli
from policyroute.render.doctor import doctor as render
from policyroute.replay.doctor.examine import doctor
from policyroute.replay.traces import NAMES, TraceError
from tests.simulate_support import catalog, policy_from, policy_of
from tests.traces_support import SAMPLES, lines, write

ROOT = Path(__file__).parents[1]
Json = dict[str, Any]


def examined(folder: Path, rows: Iterable[Mapping[str, Any]], **options: Any) -> Json:
    """The examination of rows, as it is after a trip through JSON."""
    found: Json = json.loads(json.dumps(doctor([write(folder / "t.jsonl", lines(*rows))], catalog(), **options)))
    return found


def by(listed: Iterable[Json], name: str) -> dict[str, Json]:
    return {each[name]: each for each in listed}


def said(found: Json) -> dict[str, str]:
    """The level of what is said, by what it is about."""
    return {each["about"]: each["level"] for each in found["findings"]}


BASE = {"ts": "2026-01-31T12:00:00Z", "model": "gpt-4o-mini", "input_tokens": 1000, "output_tokens": 100}


# -- figures -------------------------------------------------------------------------------------------------------


def test_every_canonical_column_is_counted(tmp_path: Path) -> None:
    found = examined(tmp_path, [{**BASE, "user_id": "u", "plan": "pro"}, {**BASE, "model": None, "plan": None}])
    columns = by(found["columns"], "column")
    assert list(columns) == [name for name in NAMES if name != "suspect_cost"]
    assert {name: each["rows"] for name, each in columns.items() if each["rows"]} == {
        "ts": 2, "user_id": 1, "model": 1, "input_tokens": 2, "output_tokens": 2,
    }  # fmt: skip
    assert columns["user_id"]["percent"] == "50.00"
    assert found["extra_columns"] == [{"column": "plan", "rows": 1, "percent": "50.00"}]
    assert found["trace"] | {"digest": ""} == {
        "format": "canonical", "files": ["t.jsonl"], "rows": 2, "window": ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"], "seconds": 0, "days": 1, "digest": "",
    }  # fmt: skip


def test_where_each_signal_is_read_from(tmp_path: Path) -> None:
    asks = [{"role": "user", "content": "hi"}]
    found = examined(
        tmp_path, [{**BASE, "messages": asks, "images": True, "stream": True}, {**BASE, "messages": None, "images": False}]
    )
    signals = by(found["signals"], "signal")
    assert {name: (signals[name]["state"], signals[name]["rows"]) for name in ("tokens", "turns", "images", "stream", "json", "tools", "hour", "user")} == {
        "tokens": ("column", 2), "turns": ("extracted", 1), "images": ("column", 2), "stream": ("column", 1), "json": ("default", 0),
        "tools": ("unknown", 0), "hour": ("column", 2), "user": ("default", 0),
    }  # fmt: skip
    assert signals["images"]["source"] == "column `images`"


POLICY = """
signal plan : free | pro = free from metadata "plan"
signal seats : int 1..100 = 1
words urgent = "urgent"
model mini { id "gpt-4o-mini" }
model own { id "our-own" in $1 out $2 }
rule a { when plan is pro and last has urgent then own }
rule b { when seats > 3 then own }
otherwise { then mini }
"""


def test_a_policys_own_signals_word_sets_and_models(tmp_path: Path) -> None:
    rows = [
        {**BASE, "model": "our-own", "metadata": {"plan": "pro"}, "messages": [{"role": "user", "content": "urgent"}]},
        {**BASE, "metadata": {}},
    ]
    found = examined(tmp_path, rows, policy=policy_from(POLICY))
    signals = by(found["signals"], "signal")
    assert {name: (signals[name]["kind"], signals[name]["state"], signals[name]["rows"], signals[name]["read"]) for name in ("plan", "seats", "last has urgent", "turns")} == {
        "plan": ("declared", "metadata", 1, True), "seats": ("declared", "unknown", 0, True), "last has urgent": ("match", "extracted", 1, True),
        "turns": ("builtin", "extracted", 1, False),
    }  # fmt: skip
    assert by(found["prices"]["models"], "model")["our-own"]["exact_rows"] == 1
    assert by(found["findings"], "about")["signals"]["message"] == "the policy reads `seats`, which the trace doesn't tell"


def test_priced_share_by_model(tmp_path: Path) -> None:
    rows = [
        BASE,
        {**BASE, "cost_usd": "0.00021", "cached_tokens": 500},
        {**BASE, "model": "gpt-4", "cached_tokens": 10},  # has no rate for cached tokens
        {**BASE, "model": "nobodys-model"},
        {**BASE, "model": None},
        {**BASE, "output_tokens": None},
        {**BASE, "status_code": 500, "output_tokens": None},  # failed: nothing is billed
    ]
    found = examined(tmp_path, rows)["prices"]
    assert {each["class"]: each["rows"] for each in found["classes"]} == {"exact": 3, "fallback": 1, "unpriceable": 3}
    assert found["fallbacks"] == [{"why": "no cached rate: input rate used", "rows": 1}]
    models = by(found["models"], "model")
    assert {name: tuple(each[key] for key in ("rows", "exact_rows", "fallback_rows", "unpriceable_rows")) for name, each in models.items()} == {
        "gpt-4o-mini": (4, 3, 0, 1), "gpt-4": (1, 0, 1, 0), "nobodys-model": (1, 0, 0, 1), None: (1, 0, 0, 1),
    }  # fmt: skip
    assert (models["gpt-4o-mini"]["priced_as"], models["nobodys-model"]["priced_as"]) == ("openai/gpt-4o-mini", None)
    assert models["gpt-4o-mini"]["why"].startswith("tokens are missing") and models["nobodys-model"]["why"].startswith(
        "no price is known"
    )
    # gpt-4o-mini: 1000 x 0.15 + 100 x 0.60, then with half of the input at 0.075; gpt-4: 1000 x 30 + 100 x 60, in millionths
    assert (found["spend_usd"], found["recorded_usd"], found["recorded_rows"]) == ("0.036382500000", "0.000210000000", 1)


def test_clusters_and_their_largest_share(tmp_path: Path) -> None:
    users = ["a"] * 3 + ["b", None]
    found = examined(
        tmp_path,
        [{**BASE, "request_id": str(at), "user_id": user, "conversation_id": f"c{at // 2}"} for at, user in enumerate(users)],
    )["clusters"]
    assert found == {
        "by": "spend",
        "users": {"number": 2, "rows_without": 1, "with_several_rows": 1, "most_rows": 3, "largest_percent": "60.00"},
        "conversations": {"number": 3, "rows_without": 0, "with_several_rows": 2, "most_rows": 2, "largest_percent": "40.00"},
    }
    unpriced = examined(tmp_path, [{"input_tokens": 30, "user_id": "a"}, {"input_tokens": 10, "user_id": "b"}])["clusters"]
    assert (unpriced["by"], unpriced["users"]["largest_percent"], unpriced["conversations"]) == ("tokens", "75.00", None)


def test_labels_and_propensities_are_found_by_name(tmp_path: Path) -> None:
    rows = [
        {**BASE, "feedback_rating": at, "propensity": 0.25 * (at + 1), "metadata": {"judge.score": "good", "plan": "pro"}}
        for at in range(3)
    ]
    found = examined(tmp_path, [*rows, BASE])
    assert found["labels"] == [
        {"place": "column `feedback_rating`", "rows": 3, "percent": "75.00", "distinct": 3, "low": 0.0, "high": 2.0},
        {"place": "`metadata` key `judge.score`", "rows": 3, "percent": "75.00", "distinct": 1, "low": None, "high": None},
    ]
    assert [(each["place"], each["low"], each["high"]) for each in found["propensities"]] == [("column `propensity`", 0.25, 0.75)]
    assert found["metadata_keys"] == [{"key": "judge.score", "rows": 3}, {"key": "plan", "rows": 3}]
    assert said(found)["quality"] == "good"


@pytest.mark.parametrize("key", ["request_id", "messages"])
def test_prompts_that_several_models_answered(tmp_path: Path, key: str) -> None:
    value: Any = [{"role": "user", "content": "hi"}] if key == "messages" else "r"
    rows = [{**BASE, "model": model, key: value, "score": 1} for model in ("gpt-4o", "gpt-4o-mini", "gpt-4o")]
    found = examined(tmp_path, rows)
    assert (found["paired_requests"], said(found)["quality"]) == (1, "good")


# -- sentences -----------------------------------------------------------------------------------------------------

FULL = {**BASE, "cached_tokens": 0, "cost_usd": 0.00021, "messages": [{"role": "user", "content": "hi"}], "tools": []}
SENTENCES: dict[str, tuple[list[dict[str, Any]], str, str, str]] = {
    "no model": ([{**FULL, "model": None}], "model", "missing", "no request names a model: what was paid is unknown"),
    "some model": ([FULL, {**FULL, "model": "None"}], "model", "warning", "1 requests name no model: they have no price"),
    "all priced": ([FULL], "prices", "good", "every model has a price"),
    "unpriced": ([FULL, {**FULL, "model": "zz-9"}], "prices", "warning", "1 requests of 1 model have no price, most of them `zz-9`: no price is known"),
    "counted": ([{"messages": FULL["messages"], "model": "gpt-4o"}], "tokens", "warning", "no token counts are recorded: a replay counts the text, which is an estimate"),
    "no size": ([{"cost": 1, "model": "gpt-4o"}], "tokens", "missing", "neither tokens nor messages are recorded: no request can be priced"),
    "no output": ([FULL, {**FULL, "output_tokens": None}], "tokens", "warning", "1 requests have no output tokens recorded: they have no price"),
    "no cache": ([BASE], "cache", "warning", "cached tokens are not recorded: all input is priced as fresh, which overstates what was paid where a cache was used"),
    "no cost": ([BASE], "cost", "warning", "no costs are recorded: our prices can't be checked against what was paid"),
    "no time": ([{**FULL, "ts": None}], "time", "missing", "no times are recorded: hours, weekdays, series by day and prices by date are unknown"),
    "relative": ([{**FULL, "ts": 12}], "time", "missing", "times count from 0: hours, weekdays, series by day and prices by date are unknown"),
    "no content": ([BASE], "content", "missing",
                   "no messages are recorded: rules about content can't be decided (last_tokens, turns, steps, tools, tool, tool_failed, images, code)"),
    "some content": ([FULL, {**FULL, "messages": None}], "content", "warning", "1 requests have no messages"),
    "no tools": ([{**FULL, "tools": None}], "content", "warning", "no tool definitions are recorded: `tools` is unknown, and counts of the text fall short by them"),
    "no users": ([FULL], "users", "missing", "no user is named: intervals can only be drawn over days, and nobody's share is known"),
    "few users": ([{**FULL, "user_id": f"u{at}"} for at in range(20)], "users", "warning", "20 users are too few for an interval to rely on (below 100)"),
    "one user": ([{**FULL, "request_id": str(at), "user_id": f"u{at if at < 99 else 0}"} for at in range(120)], "users", "warning",
                 "one user holds 18.33 % of the spend: an interval over users hardly covers that"),
    "no labels": ([FULL], "quality", "missing",
                  "no score, label or feedback was found: whether a cheaper answer would have been good enough is not identifiable from this trace"),
    "labels alone": ([{**FULL, "score": 1}], "quality", "warning",
                     "labels (column `score`) judge the model that served; without recorded propensities they say nothing about another one"),
}  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_what_follows_is_said(tmp_path: Path, name: str) -> None:
    rows, about, level, message = SENTENCES[name]
    found = examined(tmp_path, rows)["findings"]
    assert {"about": about, "level": level, "message": message}.items() <= max(
        (each for each in found if each["about"] == about), key=lambda each: each["message"] == message
    ).items()


def test_a_trace_that_carries_all_is_said_to_be_good(tmp_path: Path) -> None:
    rows = [{**FULL, "user_id": f"u{at}", "score": 1, "propensity": 0.5} for at in range(200)]
    assert {each["level"] for each in examined(tmp_path, rows)["findings"]} == {"good"}


# -- command and rendering -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample", ["azure.csv", "bfcl_v4.jsonl", "claude_code", "gpt-4o-airline.json", "helicone.jsonl", "litellm_spend_logs.csv"]
)
def test_any_format_is_examined_and_rendered(sample: str) -> None:
    found = doctor([SAMPLES / sample], catalog(), policy=policy_of("policies/support.route"))
    console = Console(record=True, width=120, file=None, quiet=True)
    with console.capture():
        render(found, console)
    assert found["trace"]["rows"] == sum(each["rows"] for each in found["prices"]["classes"]) > 0
    assert json.loads(json.dumps(found)) == found


def test_names_are_not_taken_for_markup(tmp_path: Path) -> None:
    row = {**BASE, "model": "[bold]x[/]", "user_id": "[/]", "[red]": 1, "score[/]": 2, "metadata": {"[/dim]": 1}}
    console = Console(width=160)
    with console.capture() as shown:
        render(examined(tmp_path, [row]), console)
    assert "[bold]x[/]" in shown.get() and "[red]" in shown.get() and "[/dim]" in shown.get()


def test_the_command_prints_both_forms() -> None:
    trace, policy = str(ROOT / "traces" / "support.parquet"), str(ROOT / "policies" / "support.route")
    shown = CliRunner().invoke(cli, ["doctor", trace, "--policy", policy])
    assert shown.exit_code == 0, shown.output
    assert "2,400 requests read as `canonical`, 2026-10-05 to 2026-10-18, 14 days, examined for the policy support" in shown.output
    as_json = json.loads(CliRunner().invoke(cli, ["doctor", trace, "--policy", policy, "--json"]).stdout)
    assert (as_json["schema"], as_json["policy"], as_json["trace"]["rows"]) == ("policyroute.doctor/1", "support", 2_400)
    assert "doctor" in COMMANDS


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.csv"], "there is no such file"),
        (["t.csv", "--map", "input_tokens=nothing"], "there is no field `nothing`"),
        (["t.csv", "--prices", "none.json"], "none.json"),
        (["t.csv", "--trace-format", "excel"], "there is no format `excel`"),
    ],
)
def test_what_can_not_be_examined_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.csv", "prompt_tokens,model\n1,gpt-4o\n")
    found = CliRunner().invoke(cli, ["doctor", *arguments])
    assert found.exit_code == 2
    assert complaint in found.output and "help" in found.output and "Traceback" not in found.output


def test_a_trace_that_is_none_raises(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="the file is empty"):
        doctor([write(tmp_path / "t.csv", "")], catalog())
