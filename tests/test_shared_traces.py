"""Real traces, replayed end to end with small policies: what the published data add up to, and what stays unknown.

The files lie beside the checkout, not in it; without them these tests are skipped, and `test_simulate` has small samples of the
same shapes.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from policyroute.replay.options import SimulationError
from tests.simulate_support import SHARED, Json, held, policy_from, policy_of, replay, text_of

DATA = SHARED / "data"
DESIGNED = SHARED / "design" / "policies"

SIZES = """
model mini  { id "gpt-4o-mini" }
model big   { id "gpt-4o" }
rule short  { when tokens < 1k then mini }
rule reading { when tool is not none and tokens < 4k then mini }
otherwise   { then big }
"""


def data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{name}")
    return path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signals that were extracted once."""
    return tmp_path_factory.mktemp("signals")


def figure(found: Json, model: str) -> Json:
    (line,) = [line for line in found["self_test"]["models"] if line["model"] == model]
    return dict(line)


def rows_by_class(found: Json) -> dict[str, int]:
    lines = {line["class"]: line["rows"] for line in found["accounting"] if line["rows"]}
    assert sum(lines.values()) == found["trace"]["rows"]
    return lines


# -- the self-test reproduces what was recorded --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aider_message_send_2024-08_2025-02.parquet", "aider_events_2024-08_2025-02.jsonl.gz"])
def test_aider(name: str) -> None:
    """1,577 calls of one model, recorded at $64.507; at list price they are $64.525. Models without a price are said, not dropped."""
    found = replay(policy_from(SIZES), data(f"aider/{name}"), assume={"tool": "none"})
    sonnet = figure(found, "claude-3-5-sonnet-20241022")
    assert (sonnet["rows"], round(Decimal(sonnet["recorded_usd"]), 3), round(Decimal(sonnet["recomputed_usd"]), 3)) == (
        1_577, Decimal("64.507"), Decimal("64.525"),
    )  # fmt: skip
    assert sonnet["rows_within_half_percent"] == 1_557
    assert found["trace"]["rows"] == (2_669 if name.endswith(".parquet") else 2_668)  # one line of the source occurs twice
    assert abs(Decimal(found["self_test"]["error_percent"])) < 1
    assert rows_by_class(found).keys() == {"exact", "fallback", "unpriceable", "unroutable"}
    (unpriceable,) = [line for line in found["accounting"] if line["class"] == "unpriceable"]
    assert re.search(r"calls: .*, .* and \d+ more \(`--prices FILE`", unpriceable["why"][0])
    assert unpriceable["rows"] == unpriceable["baseline_unknown_rows"] > 100


def test_pi_session_knows_cached_from_fresh_input() -> None:
    """Recorded $30.3302. Without cache prices the same tokens would be almost five times that."""
    found = replay(policy_from('model sonnet { id "claude-sonnet-4-5" }\notherwise { then sonnet }'), data("pi_agent"))
    test = found["self_test"]
    assert round(Decimal(test["recorded_usd"]), 4) == Decimal("30.3302")
    assert abs(Decimal(test["recomputed_usd"]) / Decimal(test["recorded_usd"]) - 1) < Decimal("0.005")
    assert figure(found, "sonnet")["rows_within_half_percent"] == 452
    assert found["headline"]["saving_usd"] == "0.000000000000"


def test_changing_the_model_in_a_cached_session_is_dear() -> None:
    """The saving without a warm cache stands beside the other one, and is far below it."""
    policy = policy_from('model haiku { id "claude-haiku-4-5" }\notherwise { then haiku }')
    head = held(policy, data("pi_agent"))["headline"]
    assert Decimal(head["saving_percent"]) > 60
    assert Decimal(head["saving_without_cache_percent"]) < -20


# -- the others replay end to end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv.gz", "parquet"])
def test_azure(form: str) -> None:
    """No model, no user, no text: with an incumbent and one assumption every request is decided and priced."""
    path = data(f"azure_2023/AzureLLMInferenceTrace_code.{form}")
    found = replay(policy_from(SIZES), path, incumbent="gpt-4o", assume={"tool": "none"})
    assert rows_by_class(found) == {"exact": 8_819}
    assert found["headline"]["baseline_usd"] == "47.608895000000"  # 18,059,974 tokens at $2.50 and 245,896 at $10 a million
    assert found["self_test"] is None
    assert any("`tool` is taken as none" in text for text in found["assumptions"])


def test_azure_says_what_it_does_not_tell() -> None:
    path = data("azure_2023/AzureLLMInferenceTrace_code.parquet")
    found = replay(policy_from(SIZES), path, incumbent="gpt-4o")
    (short,) = [line for line in found["rules"] if line["rule"] == "short"]
    undecided = rows_by_class(found)["not replayable"]
    large = sum(line["takes"] for line in found["rules"] if line["rule"] == "otherwise")
    assert undecided + large + short["takes"] == 8_819
    (tool,) = [line for line in found["signals"] if line["signal"] == "tool"]
    assert (tool["unknown_rows"], tool["unknown_percent"]) == (8_819, "100.00")
    (line,) = [line for line in found["accounting"] if line["class"] == "not replayable"]
    assert line["why"] == ["rule `reading` reads `tool`"]


def test_servegen() -> None:
    """331,407 requests of 24 clients; their times count from 0, so prices can't be chosen by date."""
    path = data("servegen_sampled/m-small_day0_1pct.parquet")
    found = replay(policy_from(SIZES), path, incumbent="gpt-4o", assume={"tool": "none"})
    assert rows_by_class(found) == {"fallback": 331_407}
    assert found["headline"]["baseline_usd"] == "222.450007500000"  # 53,066,567 tokens at $2.50 and 8,978,359 at $10 a million
    assert found["segments"]["user_id"]["members"] == 24
    assert found["trace"]["window"] is None


def test_tau_bench_in_both_forms(kept: Path) -> None:
    """Usage is counted from the text, as the report says. Source and derived steps give the same figures."""
    forms = [data("tau_bench/gpt-4o-airline.json.gz"), data("tau_bench/gpt-4o-airline_steps.parquet")]
    source, steps = (replay(policy_from(SIZES), path, cache=kept) for path in forms)
    assert rows_by_class(source) == rows_by_class(steps) == {"fallback": 2_454}
    assert source["headline"] == steps["headline"]
    assert source["rules"] == steps["rules"]
    (fallback,) = [line for line in source["accounting"] if line["class"] == "fallback"]
    assert "no usage recorded: tokens counted from the text" in fallback["why"]
    assert {line["rule"]: line["takes"] for line in source["rules"]}["reading"] > 500


def test_bfcl_with_results() -> None:
    """Eleven models' answers to 1,140 requests; a model that the library doesn't price stays unpriceable, and is named."""
    found = replay(policy_from(SIZES), data("bfcl_2024-08"))
    rows = rows_by_class(found)
    assert sum(rows.values()) == 12_540
    (unpriceable,) = [line for line in found["accounting"] if line["class"] == "unpriceable"]
    assert all("open-mistral-nemo-2407" in why for why in unpriceable["why"])
    assert unpriceable["rows"] == unpriceable["baseline_unknown_rows"] == 1_140


def test_bfcl_requests_without_answers_have_no_price() -> None:
    """Every request is decided; without an answer there is no cost, and no saving is printed."""
    found = replay(policy_from(SIZES), data("bfcl_v4_requests"), incumbent="gpt-4o")
    assert rows_by_class(found) == {"unpriceable": 1_048}
    assert sum(line["takes"] for line in found["rules"]) == 1_048
    assert found["headline"]["saving_percent"] is None


# -- the policies of the design ------------------------------------------------------------------------------------


@pytest.mark.skipif(not DESIGNED.exists(), reason="needs ../shared/design/policies")
@pytest.mark.parametrize("path", [DESIGNED / "support.route", DESIGNED / "coding.route"], ids=lambda path: path.stem)
def test_designed_policies(path: Path, kept: Path) -> None:
    """Replayed as they stand, with what their state did; and without it where that is said, and then the report says so."""
    policy, trace = policy_of(path), data("tau_bench/gpt-4o-airline_steps.parquet")
    stateful = [construct.title for construct in policy.constructs if construct.kind in ("sticky", "quota", "budget", "escalate")]
    with pytest.raises(SimulationError, match="the trace has no times"):
        replay(policy, trace, cache=kept)
    whole = replay(policy, Path(__file__).parents[1] / "traces" / f"{path.stem}.parquet", cache=kept, assume={"difficulty": "easy"})
    assert whole["state"]["rows"] + whole["state"]["outside"] == whole["trace"]["rows"]
    assert not any("is replayed without" in text for text in whole["assumptions"])
    found = replay(policy, trace, without=stateful, cache=kept)
    rows_by_class(found)
    assert all(any(title in text and "without" in text for text in found["assumptions"]) for title in stateful)
    assert text_of(found)
