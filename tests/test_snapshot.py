"""`policyroute snapshot`: the same requests each time, some of every rule, and exactly the flips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from policyroute.cli import cli
from policyroute.language import load
from policyroute.language.reference import decide
from policyroute.prices.catalog import complete, load_catalog
from policyroute.replay.snapshots import decisions

ROOT = Path(__file__).parents[1]
TRACES = ("support", "saas", "coding")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["snapshot", *arguments])


def draw(name: str, *more: str) -> list[dict[str, Any]]:
    found = run(str(ROOT / "traces" / f"{name}.parquet"), "--policy", f"policies/{name}.route", *more)
    assert found.exit_code == 0, found.output
    head, *rows = [json.loads(line) for line in Path(f"snapshots/{name}.jsonl").read_text("utf-8").splitlines()]
    assert head["policy"] == name
    return rows


@pytest.mark.parametrize("name", TRACES)
def test_what_is_kept_is_what_was_decided(place: Path, name: str) -> None:
    """Each kept decision is the reference's for the kept values; every rule that takes a request of the trace is there; no text is."""
    rows = draw(name, "--rows", "60")
    policy, _ = complete(load(f"policies/{name}.route"), load_catalog())
    assert 0 < len(rows) <= 60
    for row in rows:
        values = {signal.name: signal.default for signal in policy.signals.values()} | {
            k: v for k, v in row["values"].items() if v is not None
        }
        decision = decide(policy, values)
        assert (decision.rule, list(decision.chain)) == (row["rule"], row["chain"])
        assert not {"prompt", "last", "system"} & row["values"].keys()
    output = place / "rows.parquet"
    replayed = CliRunner().invoke(
        cli, ["simulate", str(ROOT / "traces" / f"{name}.parquet"), "--policy", f"policies/{name}.route", "--output", str(output)]
    )
    assert replayed.exit_code == 0, replayed.output
    rules = {rule for (rule,) in duckdb.sql(f"SELECT DISTINCT rule FROM '{output}' WHERE rule IS NOT NULL").fetchall()}
    assert {row["rule"] for row in rows} == rules


def test_the_same_trace_gives_the_same_file(place: Path) -> None:
    first = draw("support")
    assert run(str(ROOT / "traces" / "support.parquet"), "--policy", "policies/support.route").exit_code == 2  # it is there
    assert draw("support", "--update") == first


def test_flips_are_found_and_kept_when_asked(place: Path) -> None:
    rows = draw("support")
    clean = run("--policy", "policies/support.route")
    assert clean.exit_code == 0 and "0 of 200 decisions flip" in clean.stdout
    path = place / "policies" / "support.route"
    path.write_text(
        path.read_text("utf-8").replace("last has faq and last_tokens < short then cheap", "last has faq and code then cheap"),
        "utf-8",
    )
    policy, _ = complete(load(path), load_catalog())
    now = decisions(policy, [row["values"] for row in rows])
    wanted = {
        row["request"] for row, (rule, chain) in zip(rows, now, strict=True) if (rule, list(chain)) != (row["rule"], row["chain"])
    }
    found = run("--policy", "policies/support.route", "--json")
    told = json.loads(found.stdout)
    assert found.exit_code == 1 and {flip["request"] for flip in told["flips"]} == wanted and len(wanted) > 10
    assert all(flip["was"]["rule"] == "quick_question" != flip["is"]["rule"] for flip in told["flips"])
    assert "was quick_question -> " in run("--policy", "policies/support.route").stdout
    assert run("--policy", "policies/support.route", "--update").exit_code == 0
    assert run("--policy", "policies/support.route").exit_code == 0


def test_what_was_not_kept_is_not_guessed(place: Path) -> None:
    """A rule above that reads a new set of words: every request that reaches it can't be decided from the file."""
    draw("support", "--rows", "50")
    path = place / "policies" / "support.route"
    text = path.read_text("utf-8").replace(
        "rule pasted_log", 'words hello = "hello"\nrule greeting { when last has hello then cheap }\nrule pasted_log', 1
    )
    path.write_text(text, "utf-8")
    found = run("--policy", "policies/support.route", "--json")
    flips = json.loads(found.stdout)["flips"]
    assert (
        found.exit_code == 1
        and len(flips) == 50
        and {flip["needs"] for flip in flips} == {"greeting"}
        and not any(flip["is"] for flip in flips)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"snapshot": 9, "policy": "p", "source": []}',
        '{"snapshot": 1}',
        '{"snapshot": 1, "policy": "p", "source": []}\n{"rule": 1}',
    ],
)
def test_a_file_that_is_none(place: Path, text: str) -> None:
    (place / "s.jsonl").write_text(text, "utf-8")
    found = run("--policy", "policies/support.route", "--file", "s.jsonl")
    assert found.exit_code == 2 and "snapshot" in found.stderr and "Traceback" not in found.output
    assert run("--policy", "policies/support.route", "--file", "nowhere.jsonl").exit_code == 2
