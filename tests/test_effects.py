"""What a replay reckons beyond prices, against a slow reckoning in Python: prompt cache, recorded outages, lengths, break-even."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest

from policyroute.prices.cost import Usage, cost
from policyroute.replay.effects.aside import ANSWERED, FRAMING
from policyroute.replay.options import SimulationError
from policyroute.signals.tokens import count
from tests.simulate_support import SHARED, Json, catalog, picodollars, policy_from, replay

MODELS = """
model nano   { provider openai     id "nano-1"   in $1  out $4   cached $0.10 }
model sonnet { provider anthropic  id "sonnet-1" in $3  out $15  cached $0.30 }
model opus   { provider anthropic  id "opus-1"   in $15 out $75  cached $1.50 }
tier low = nano, sonnet
tier high = opus
order low < high
"""
POLICY = (
    MODELS
    + "rule short { when tokens < 4k then low }\nrule deep { when steps > 2 then high }\notherwise { then sonnet fallback nano }\n"
)
START = datetime(2026, 5, 1, 10, tzinfo=UTC)
SERVED = ("nano-1", "sonnet-1", "opus-1")
PROVIDER = {"nano-1": "openai", "sonnet-1": "anthropic", "opus-1": "anthropic"}
RULES = {"openai": (300, 1_024, 128), "anthropic": (300, 1_024, 1)}

Row = dict[str, Any]


def conversations(seed: int, *, failing: bool = False) -> list[Row]:
    """Calls of conversations that grow, some with a warm cache; ids of conversations may be missing."""
    rng, rows = random.Random(seed), []
    for number in range(rng.randint(3, 6)):
        model, moment, size = rng.choice(SERVED), START + timedelta(seconds=rng.randrange(600)), rng.randrange(200, 6_000)
        caches = number == 1 or rng.random() < 0.8
        for _ in range(rng.randint(1, 7)):
            failed = failing and rng.random() < 0.25
            cached = rng.randrange(1, size) if caches and size > 1 and (number == 1 or rng.random() < 0.7) else 0
            rows.append({
                "ts": moment.isoformat(), "provider": PROVIDER[model], "model": model, "input_tokens": size, "cached_tokens": cached,
                "output_tokens": rng.randrange(400), "conversation_id": f"c{number}" if number else None, "user_id": f"u{number % 3}",
                "steps": rng.randrange(5), "status_code": rng.choice((429, 500, 503)) if failed else 200,
            })  # fmt: skip
            moment += timedelta(seconds=rng.choice((0, 5, 40, 290, 301, 900)))
            size = max(1, size + rng.randrange(-500, 3_000))
            model = rng.choice(SERVED) if rng.random() < 0.2 else model
    rng.shuffle(rows)
    return rows


def written(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def routed(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The chain of `POLICY`, and behind it what `next` can come to."""
    if row["input_tokens"] < 4_000:
        return ("nano-1", "sonnet-1", "opus-1")
    return ("opus-1",) if row["steps"] > 2 else ("sonnet-1", "nano-1")


def outages(rows: Sequence[Row]) -> set[tuple[datetime, str]]:
    calls: dict[tuple[datetime, str], list[bool]] = defaultdict(list)
    for row in rows:
        calls[minute(row), row["provider"]].append(row["status_code"] >= 429)
    return {place for place, failed in calls.items() if any(failed) and sum(failed) * 2 >= len(failed)}


def minute(row: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(row["ts"]).replace(second=0)


def prices() -> dict[str, Any]:
    policy = policy_from(POLICY)
    return {policy.models[name].id: each for name, each in catalog().for_policy(policy).items()}


def money(model: str, row: Row, **changed: int) -> int:
    usage = {"input": row["input_tokens"], "output": row["output_tokens"], "cached": row["cached_tokens"]} | changed
    found = cost(Usage(**usage) if row["status_code"] < 400 else Usage(0), prices()[model], datetime.fromisoformat(row["ts"]))
    assert found is not None
    return found.picodollars


def answering(row: Row, down: set[tuple[datetime, str]]) -> str | None:
    chain = routed(row)
    if row["status_code"] >= 400 or chain[0] == row["model"] or (minute(row), PROVIDER[chain[0]]) not in down:
        return chain[0]
    return next((model for model in chain if (minute(row), PROVIDER[model]) not in down), None)


# -- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_outages_are_replayed_on_the_requests_that_move_there(seed: int, tmp_path: Path) -> None:
    rows = conversations(seed, failing=True)
    found = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), prompt_cache="held")
    down = outages(rows)
    answers = [answering(row, down) for row in rows]
    assert found["risk"].get("fallback_rows", 0) == sum(
        a not in (None, routed(row)[0]) for a, row in zip(answers, rows, strict=True)
    )
    assert found["risk"]["unanswered_rows"] == answers.count(None)
    total = sum(money(model, row) for model, row in zip(answers, rows, strict=True) if model)
    assert picodollars(found["headline"]["routed_usd"]) == total
    plain = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), prompt_cache="held", failures=False)
    assert picodollars(plain["headline"]["routed_usd"]) == sum(money(routed(row)[0], row) for row in rows)


def test_one_failing_call_is_an_outage_for_who_comes_and_not_for_who_was_there(tmp_path: Path) -> None:
    base = {"ts": "2026-05-01T10:00:00Z", "input_tokens": 100, "cached_tokens": 0, "output_tokens": 10, "steps": 0}
    failed = base | {"provider": "openai", "model": "nano-1", "status_code": 503}
    moving = base | {"provider": "anthropic", "model": "opus-1", "status_code": 200}
    staying = base | {"ts": "2026-05-01T10:00:30Z", "provider": "openai", "model": "nano-1", "status_code": 200}
    later = moving | {"ts": "2026-05-01T10:01:00Z"}
    found = replay(policy_from(POLICY), written([failed, moving, staying, later], tmp_path / "t.jsonl"))
    assert {(line["from"], line["to"]): line["rows"] for line in found["flows"]} == {
        ("nano", "nano"): 2, ("opus", "sonnet"): 1, ("opus", "nano"): 1,
    }  # fmt: skip
    assert [(line["what"], line["rows"]) for line in found["costs"]] == [
        ("fallbacks in recorded outages", 1), ("failed attempts and their retries, billed no tokens", 1),
    ]  # fmt: skip
    assert picodollars(found["costs"][0]["usd"]) == 100 * 2_000_000 + 10 * 11_000_000


# -- prompt cache --------------------------------------------------------------------------------------------------


def modelled_reads(rows: Sequence[Row]) -> list[int]:
    """What each call finds cached, conversation by conversation in the order of time; None's conversation finds nothing elsewhere."""
    order = sorted(range(len(rows)), key=lambda at: (datetime.fromisoformat(rows[at]["ts"]), rows[at]["input_tokens"], at))
    uses: dict[Any, bool] = defaultdict(bool)
    for row in rows:
        uses[row["conversation_id"]] |= row["cached_tokens"] > 0
    heads: dict[Any, int] = defaultdict(int)
    head_of = [0] * len(rows)
    mine: dict[tuple[Any, str], int] = {}
    theirs: dict[tuple[Any, str], int] = {}
    reads = [0] * len(rows)
    for at in order:
        row, talk, new = rows[at], rows[at]["conversation_id"], routed(rows[at])[0]
        before, recorded = mine.get((talk, new)), theirs.get((talk, row["model"]))
        heads[talk] += uses[talk] and not row["cached_tokens"] and kept(rows, recorded, at, row["model"]) > 0
        head_of[at] = heads[talk]
        if new == row["model"] and (talk is None or before == recorded):
            reads[at] = row["cached_tokens"]
        elif talk is not None and uses[talk] and before is not None:
            reads[at] = kept(rows, before, at, new) if head_of[before] == heads[talk] else 0
        mine[talk, new] = at
        theirs[talk, row["model"]] = at
    return reads


def kept(rows: Sequence[Row], before: int | None, at: int, model: str) -> int:
    """What of the prompt of row `at` the model still has from row `before`."""
    lifetime, minimum, step = RULES[PROVIDER[model]]
    if before is None or datetime.fromisoformat(rows[at]["ts"]) - datetime.fromisoformat(rows[before]["ts"]) > timedelta(
        seconds=lifetime
    ):
        return 0
    prefix = min(rows[before]["input_tokens"], rows[at]["input_tokens"])
    return prefix - prefix % step if prefix >= minimum else 0


@pytest.mark.parametrize("seed", range(20))
def test_a_conversation_that_moves_loses_its_prefix(seed: int, tmp_path: Path) -> None:
    rows = conversations(seed)
    found = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), prompt_cache="model")
    reads = modelled_reads(rows)
    total = sum(money(routed(row)[0], row, cached=read) for row, read in zip(rows, reads, strict=True))
    assert picodollars(found["headline"]["routed_usd"]) == total
    assert picodollars(found["headline"]["baseline_usd"]) == sum(money(row["model"], row) for row in rows)
    halves = [written(rows[: len(rows) // 2], tmp_path / "a.jsonl"), written(rows[len(rows) // 2 :], tmp_path / "b.jsonl")]
    assert replay(policy_from(POLICY), halves, prompt_cache="model")["headline"] == found["headline"]


def test_the_model_of_the_cache_knows_its_own_error(tmp_path: Path) -> None:
    """Three calls of one model: the second is modelled to read 2,000 (recorded 1,500), the third comes too late (recorded 0)."""
    sizes, cached, at = (2_000, 3_000, 3_500), (0, 1_500, 0), (0, 60, 1_000)
    rows = [
        {"ts": (START + timedelta(seconds=second)).isoformat(), "provider": "anthropic", "model": "sonnet-1", "input_tokens": size,
         "cached_tokens": part, "output_tokens": 0, "conversation_id": "c", "steps": 0}
        for size, part, second in zip(sizes, cached, at, strict=True)
    ]  # fmt: skip
    check = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), prompt_cache="model")["cache"]["check"]
    assert (check["rows"], check["recorded_tokens"], check["modelled_tokens"]) == (3, 1_500, 2_000)
    assert (check["error_percent"], picodollars(check["error_usd"])) == ("33.33", -500 * 2_700_000)


def test_cache_off_and_what_a_trace_cannot_carry(tmp_path: Path) -> None:
    rows = conversations(3)
    path = written(rows, tmp_path / "t.jsonl")
    off = replay(policy_from(POLICY), path, prompt_cache="off")
    total = sum(money(routed(row)[0], row, **({} if routed(row)[0] == row["model"] else {"cached": 0})) for row in rows)
    assert picodollars(off["headline"]["routed_usd"]) == total
    bare = written([{key: value for key, value in row.items() if key != "conversation_id"} for row in rows], tmp_path / "b.jsonl")
    assert replay(policy_from(POLICY), bare)["cache"]["mode"] == "held"
    with pytest.raises(SimulationError, match="can't be modelled"):
        replay(policy_from(POLICY), bare, prompt_cache="model")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared traces are not here")
def test_pi_session_reads_within_ten_percent() -> None:
    found = replay(policy_from(MODELS + "otherwise { then sonnet }"), next((SHARED / "data" / "pi_agent").glob("*.gz")))
    check = found["cache"]["check"]
    assert check["recorded_tokens"] == 43_229_469
    assert abs(Decimal(check["error_percent"])) < 10
    assert abs(Decimal(check["cost_error_percent"])) < 50


# -- lengths -------------------------------------------------------------------------------------------------------


def test_a_table_of_ratios(tmp_path: Path) -> None:
    rows = conversations(5)
    table = tmp_path / "ratios.csv"
    table.write_text(
        "from,to,output_ratio,input_ratio,rule\nsonnet,nano,1.5,1.2,\nopus,nano,2,,short\nopus-1,sonnet-1,0.5,1,\n", "utf-8"
    )
    found = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), lengths=table, prompt_cache="held")
    ratios = {("sonnet-1", "nano-1"): ("1.5", "1.2"), ("opus-1", "nano-1"): ("2", "1"), ("opus-1", "sonnet-1"): ("0.5", "1")}
    total, held = 0, 0
    for row in rows:
        new = routed(row)[0]
        output, into = ratios.get((row["model"], new), ("1", "1"))
        held += new != row["model"] and (row["model"], new) not in ratios
        total += money(
            new, row, output=half_up(row["output_tokens"], output), input=half_up(row["input_tokens"], into),
            cached=int(row["cached_tokens"] * Decimal(into)),
        )  # fmt: skip
    assert picodollars(found["headline"]["routed_usd"]) == total
    assert (found["lengths"]["mode"], found["lengths"]["held_rows"]) == ("table", held)


def half_up(tokens: int, ratio: str) -> int:
    return int(tokens * Decimal(ratio) + Decimal("0.5"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from,to\nsonnet,nano\n", "lacks `output_ratio`"),
        ("from,to,output_ratio\nsonnet,nano,abc\n", "line 2: `abc` is not a ratio"),
        ("from,to,output_ratio\nsonnet,nano,0\n", "line 2: `0` is not a ratio"),
        ("from,to,output_ratio,rule\nsonnet,nano,1,shrot\n", "no rule is named `shrot`"),
    ],
)
def test_a_wrong_table_says_where(text: str, said: str, tmp_path: Path) -> None:
    table = tmp_path / "ratios.csv"
    table.write_text(text, "utf-8")
    with pytest.raises(SimulationError, match=said):
        replay(policy_from(POLICY), written(conversations(1), tmp_path / "t.jsonl"), lengths=table)


def test_modelled_lengths_are_the_ratio_of_means_of_traffic_that_both_served(tmp_path: Path) -> None:
    """60 short answers of each model: nano writes 30 tokens, sonnet 20; the long ones were served by opus alone, and are held."""
    base = {"ts": "2026-05-01T10:00:00Z", "cached_tokens": 0, "steps": 0}
    rows = [base | {"provider": "openai", "model": "nano-1", "input_tokens": 10, "output_tokens": 30} for _ in range(60)]
    rows += [base | {"provider": "anthropic", "model": "sonnet-1", "input_tokens": 10, "output_tokens": 20} for _ in range(60)]
    rows += [base | {"provider": "anthropic", "model": "opus-1", "input_tokens": 5_000, "output_tokens": 7} for _ in range(60)]
    rows = [row | {"request_id": f"r{number}"} for number, row in enumerate(rows)]
    found = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), lengths="modelled")
    total = 120 * (10 * 1_000_000 + 30 * 4_000_000) + 60 * (5_000 * 3_000_000 + 7 * 15_000_000)
    assert picodollars(found["headline"]["routed_usd"]) == total
    assert (found["lengths"]["held_rows"], found["lengths"]["held_percent"]) == (60, "50.00")


# -- what holds for every report -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_story_adds_up(seed: int, tmp_path: Path) -> None:
    rows = conversations(seed, failing=True)
    found = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), details=True)
    head, steps = found["headline"], found["waterfall"]
    assert sum(picodollars(step["usd"]) for step in steps[:-1]) == picodollars(steps[-1]["usd"]) == picodollars(head["routed_usd"])
    for name in ("baseline_usd", "routed_usd"):
        assert sum(picodollars(day[name]) for day in found["days"]) == picodollars(head[name])
    assert {day["day"] for day in found["days"]} <= {"2026-05-01"}
    check_break_even(found, rows)
    check_switches(found, rows)
    for example in found["examples"]:
        row = rows[example["row"]]
        billed = (row["input_tokens"], row["output_tokens"]) if row["status_code"] < 400 else (0, 0)
        assert (example["input_tokens"], example["output_tokens"]) == billed


def check_break_even(found: Json, rows: Sequence[Row]) -> None:
    ratio = found["break_even"]["output_ratio"]
    saving = picodollars(found["headline"]["saving_usd"])
    down, written_ = outages(rows), 0
    for row in rows:
        new = answering(row, down)
        if new and new != row["model"]:
            written_ += money(new, row) - money(new, row, output=0) if row["status_code"] < 400 else 0
    if saving <= 0 or not written_ or saving > 1000 * written_:
        assert ratio is None
    else:
        assert ratio == format((1 + Decimal(saving) / written_).quantize(Decimal("0.01"), ROUND_HALF_EVEN), "f")


def check_switches(found: Json, rows: Sequence[Row]) -> None:
    down = outages(rows)
    talks: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for row in rows:
        if row["conversation_id"]:
            talks[row["conversation_id"]].append((row["model"], answering(row, down)))
    several = [calls for calls in talks.values() if len(calls) > 1]
    risk = found["risk"]
    assert risk.get("conversations", 0) == len(several)
    if several:
        assert risk["conversations_of_several_models_before"] == sum(len({old for old, _ in calls}) > 1 for calls in several)
        assert risk["conversations_of_several_models_after"] == sum(len({new for _, new in calls}) > 1 for calls in several)


def test_a_rule_is_worth_what_the_bill_would_be_without_it(tmp_path: Path) -> None:
    """Without `short`, its requests fall to `deep` or `otherwise`."""
    rows = conversations(7)
    found = replay(policy_from(POLICY), written(rows, tmp_path / "t.jsonl"), details=True, prompt_cache="held")
    (line,) = [line for line in found["rules"] if line["rule"] == "short"]
    mine = [row for row in rows if row["input_tokens"] < 4_000]
    without = sum(money("opus-1" if row["steps"] > 2 else "sonnet-1", row) for row in mine)
    assert picodollars(line["without"]["routed_usd"]) == without
    assert picodollars(line["without"]["difference_usd"]) == without - sum(money("nano-1", row) for row in mine)


# -- prefix hashes -------------------------------------------------------------------------------------------------


def test_prompts_share_what_their_hashes_say(tmp_path: Path) -> None:
    """The second call continues the first (2 of its 3 blocks, 1,000 of 1,500 tokens); the third comes too late; the fourth shares one block of four."""
    calls = [(0, 1_000, [1, 2]), (60, 1_500, [1, 2, 3]), (600, 2_000, [1, 2, 3, 4]), (660, 1_000, [1, 9]), (670, 999, None)]
    rows = [
        {"timestamp": second * 1_000, "input_length": size, "output_length": 1, "hash_ids": ids}
        for second, size, ids in calls
        if ids
    ]
    found = replay(policy_from(MODELS + "otherwise { then sonnet }"), written(rows, tmp_path / "t.jsonl"), incumbent="opus-1")
    check = found["cache"]["prefix_check"]
    assert (check["rows"], check["continuing_rows"]) == (4, 1)
    assert (check["shared_tokens"], check["modelled_tokens"]) == (1_000 + 500, 1_000)
    assert (check["error_percent"], check["row_error_percent"]) == ("-33.33", "33.33")


# -- classifiers ---------------------------------------------------------------------------------------------------


def test_a_classifier_is_counted_and_never_free(tmp_path: Path) -> None:
    """It is asked for the two requests that reach its rule, at the price of what it is shown: here the whole request."""
    policy = policy_from(
        MODELS + 'classifier difficulty : easy | hard { ask nano about last prompt "Easy or hard?" on failure easy }\n'
        "rule short { when tokens < 100 then nano }\nrule tough { when difficulty is hard then opus }\notherwise { then sonnet }\n"
    )
    rows = [
        {"ts": "2026-05-01T10:00:00Z", "model": "opus-1", "provider": "anthropic", "input_tokens": size, "output_tokens": 1, "request_id": str(size)}
        for size in (50, 500, 600)
    ]  # fmt: skip
    found = replay(policy, written(rows, tmp_path / "t.jsonl"), assume={"difficulty": "easy"})
    nano = next(iter(catalog().for_policy(policy)["nano"].prices))
    shown = 500 + 600 + 2 * (count("Easy or hard?") + FRAMING)
    most = Decimal(shown * nano.input + 2 * ANSWERED * (nano.output or 0)) / 10**12
    (line,) = found["costs"]
    assert Decimal(line["usd"]) == most
    assert any("the classifier `difficulty` is asked for up to 2 requests" in text for text in found["assumptions"])
    assert found["waterfall"][-2]["usd"] == line["usd"]


def test_answers_that_nobody_tested_are_taken_to_be_strong(tmp_path: Path) -> None:
    policy = policy_from(
        MODELS
        + "escalate low { when answer is empty then up }\nrule short { when tokens < 100 then low }\notherwise { then high }\n"
    )
    base = {"ts": "2026-05-01T10:00:00Z", "model": "opus-1", "provider": "anthropic", "output_tokens": 1}
    path = written([base | {"input_tokens": 50}, base | {"input_tokens": 500}], tmp_path / "t.jsonl")
    found = replay(policy, path)
    assert found["costs"] == []
    assert "1 answers of `low` are taken to be strong enough: nobody has tested them" in found["assumptions"]


def test_a_known_weak_answer_is_asked_again(tmp_path: Path) -> None:
    """The journal says that `nano` gave a weak answer and `opus` another one: under the same policy both are paid, before and after."""
    policy = policy_from(
        MODELS
        + "escalate low { when answer is empty then up }\nrule short { when tokens < 100 then low }\notherwise { then high }\n"
    )
    base = {"ts": "2026-05-01T10:00:00Z", "provider": "anthropic", "output_tokens": 10}
    weak = base | {"model": "opus-1", "input_tokens": 50, "escalated_from": "nano", "escalated_cost_usd": "0.000100"}
    path = written([weak, base | {"model": "nano-1", "provider": "openai", "input_tokens": 50}], tmp_path / "t.jsonl")
    found = replay(policy, path)
    assert (found["headline"]["changed"], Decimal(found["headline"]["saving_usd"])) == (0, 0)
    opus = next(iter(catalog().for_policy(policy)["opus"].prices))
    nano = next(iter(catalog().for_policy(policy)["nano"].prices))
    answers = 50 * opus.input + 10 * (opus.output or 0) + 50 * nano.input + 10 * (nano.output or 0)
    assert Decimal(found["headline"]["routed_usd"]) == Decimal(answers) / 10**12 + Decimal("0.000100")
    assert any(text.startswith("1 answers are known to be weak and are asked again") for text in found["assumptions"])
