"""`simulate --classify`: answers that are recorded, drawn, or asked for now, and what they cost."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from policyroute.cli import cli
from policyroute.replay.effects.aside import ANSWERED, FRAMING, asks
from policyroute.signals.tokens import count
from tests.gateway_support import provider
from tests.simulate_support import Json, policy_from, replay

POLICY = """
model nano  { provider openai  id "nano-1"  in $1   out $4 }
model mini  { provider openai  id "mini-1"  in $2   out $8 }
model big   { provider openai  id "big-1"   in $10  out $40 }
tier cheap = mini
tier top = big
order cheap < top
classifier difficulty : easy | medium | hard {
  ask nano  about last  prompt "Easy, medium or hard?"  within 2s  on failure medium  column "how_hard"
}
rule long   { when tokens > 5000 then top }
rule hard   { when tools == 0 and difficulty is hard then top }
rule medium { when difficulty in (medium, hard) and tokens > 2000 then top }
otherwise   { then cheap }
"""


def rows(number: int = 2_000, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "ts": f"2026-05-01T{n % 24:02d}:{n % 60:02d}:00Z", "request_id": f"r{n}", "model": "big-1", "provider": "openai", "user_id": f"u{n % 50}",
            "input_tokens": 100 + n * 3, "output_tokens": 10, "tool_count": n % 4 == 0, **more,
        }
        for n in range(number)
    ]  # fmt: skip


def written(found: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), "utf-8")
    return path


def test_a_mix_is_drawn_alike_however_the_trace_is_cut(tmp_path: Path) -> None:
    mix = {"difficulty": (6_000, 2_500, 1_500)}
    whole = replay(policy_from(POLICY), written(rows(), tmp_path / "t.jsonl"), mix=mix, output=tmp_path / "whole.parquet")
    halves = tmp_path / "halves"
    halves.mkdir()
    written(rows()[1_000:], halves / "a.jsonl"), written(rows()[:1_000], halves / "b.jsonl")
    cut = replay(policy_from(POLICY), halves, mix=mix)
    assert cut["headline"] == whole["headline"] and cut["classified"] == whole["classified"]
    assert any("drawn: 60 % easy, 25 % medium, 15 % hard" in text for text in whole["assumptions"])
    rules = Counter(pq.read_table(tmp_path / "whole.parquet")["rule"].to_pylist())
    asked = sum(1 for row in rows() if row["input_tokens"] <= 5_000 and not row["tool_count"])
    assert 0.12 < rules["hard"] / asked < 0.18


def test_bounds_are_the_replays_with_one_answer(tmp_path: Path) -> None:
    path = written(rows(), tmp_path / "t.jsonl")
    found = replay(policy_from(POLICY), path, mix={"difficulty": (6_000, 2_500, 1_500)})
    alone: Json = {
        member: replay(policy_from(POLICY), path, assume={"difficulty": member})["headline"]["saving_usd"]
        for member in ("easy", "medium", "hard")
    }
    assert {line["member"]: line["saving_usd"] for line in found["classified"]} == alone
    assert Decimal(alone["hard"]) < Decimal(found["headline"]["saving_usd"]) < Decimal(alone["easy"])


def test_a_recorded_answer_goes_before_all(tmp_path: Path) -> None:
    path = written(rows(how_hard="easy"), tmp_path / "t.jsonl")
    recorded = replay(policy_from(POLICY), path)
    drawn = replay(policy_from(POLICY), path, mix={"difficulty": (0, 0, 10_000)})
    assert recorded["headline"] == drawn["headline"]
    assert next(line for line in recorded["signals"] if line["signal"] == "difficulty")["source"] == "column `how_hard`"


def test_what_is_asked_for_now(tmp_path: Path) -> None:
    """Only requests that reach the classifier are asked, each once, with its messages; their cost is counted where it is known."""
    seen: list[tuple[str, object]] = []

    def ask(name: str, messages: object) -> tuple[str, int | None]:
        seen.append((name, messages))
        return ("hard" if "proof" in str(messages) else "easy"), 7_000_000

    texts = ["a proof", "a chat"]
    found = [
        row | {"messages": [{"role": "user", "content": texts[n % 2]}], "input_tokens": 6_000 if n % 5 == 0 else 300}
        for n, row in enumerate(rows(100))
    ]
    result = replay(policy_from(POLICY), written(found, tmp_path / "t.jsonl"), ask=ask, output=tmp_path / "out.parquet")
    reached = [n for n, row in enumerate(found) if row["input_tokens"] <= 5_000 and not row["tool_count"]]
    in_medium = [n for n, row in enumerate(found) if row["input_tokens"] <= 5_000 and row["tool_count"]]
    assert len(seen) == len(reached)  # the others read it too, and whatever it says decides nothing: they are priced, not asked
    rules = pq.read_table(tmp_path / "out.parquet")["rule"].to_pylist()
    assert {rules[n] for n in reached if n % 2 == 0} == {"hard"} and {rules[n] for n in reached if n % 2} == {"otherwise"}
    (line,) = result["costs"]
    shown = {text: count(text) for text in texts}
    prompt = count("Easy, medium or hard?") + FRAMING + 4 * ANSWERED
    most = sum(shown[texts[n % 2]] + prompt for n in in_medium) * 1_000_000
    assert abs(Decimal(line["usd"]) - Decimal(len(seen) * 7_000_000 + most) / 10**12) < Decimal("0.001")
    assert Decimal(line["usd"]) > Decimal(len(seen) * 7_000_000) / 10**12


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("difficulty is hard", "asked"),
        ("tools == 0 and difficulty is hard", "tools == 0"),
        ("tools == 0 or difficulty is hard", "not"),
        ("tools == 0", "never"),
    ],
)  # fmt: skip
def test_what_evaluation_comes_to_read(condition: str, wanted: str) -> None:
    policy = policy_from(POLICY.replace("tools == 0 and difficulty is hard", condition))
    rule = next(rule for rule in policy.rules if rule.name == "hard")
    found = str(asks(rule.condition, "difficulty"))
    assert {"asked": "Literal(value=True", "tools == 0": "operator='=='", "not": "operator='not'", "never": "value=False"}[
        wanted
    ] in found


# -- the command ---------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, list(arguments), prog_name="policyroute")
    return found.exit_code, found.output


def test_the_command_asks_a_real_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with provider("hard") as upstream:
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        (tmp_path / "p.route").write_text(f"edition 1\npolicy p\n{POLICY}", "utf-8")
        found = [row | {"messages": [{"role": "user", "content": f"question {n}"}]} for n, row in enumerate(rows(8))]
        path = written(found, tmp_path / "t.jsonl")
        code, out = run("simulate", str(path), "--policy", str(tmp_path / "p.route"), "--classify", "live", "--json")
        assert code == 0, out
        result = json.loads(out)
        assert {line["rule"]: line["takes"] for line in result["rules"]}["hard"] == 6
        assert len(upstream.seen) == 6
        assert Decimal(result["costs"][0]["usd"]) > 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mix 60,40", "needs 3 shares that add up to 100 %"),
        ("mix 60,30,20", "needs 3 shares that add up to 100 %"),
        ("mix a,b,c", "are no shares"),
        ("sometimes", "is no way to learn what `difficulty` says"),
        ("mood=live", "has no classifier `mood`"),
    ],
)
def test_bad_ways(how: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.route").write_text(f"edition 1\npolicy p\n{POLICY}", "utf-8")
    path = written(rows(2), tmp_path / "t.jsonl")
    code, out = run("simulate", str(path), "--policy", str(tmp_path / "p.route"), "--classify", how)
    assert code == 2 and message in out


def test_without_an_answer_a_request_is_not_replayed(tmp_path: Path) -> None:
    found = replay(policy_from(POLICY), written(rows(100), tmp_path / "t.jsonl"))
    assert next(line["rows"] for line in found["accounting"] if line["class"] == "not replayable") == 75
