"""The quality panel: against a plain reckoning, in any order, and over what was recorded elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from policyroute.language import Policy
from policyroute.prices.cost import Usage, cost
from policyroute.render.quality import quality as show
from policyroute.render.quality import quality_markdown
from policyroute.replay.options import Options, silent
from policyroute.replay.outcomes import open_outcomes, served_numbers
from policyroute.replay.outcomes.verdict import verdict
from policyroute.replay.prepare import prepared
from policyroute.replay.traces import TraceError
from tests.outcomes_support import DATA, MICRO, needs_data, panel, write
from tests.simulate_support import ROOT, Json, catalog, picodollars, policy_from, policy_of

# -- a tiny world, reckoned by hand ------------------------------------------------------------------------------------

WORLD = """
words hard = "prove", "derive"
model small  { provider p  id "small-1"  in $1  out $2 }
model middle { provider p  id "middle-1"  in $3  out $9 }
model large  { provider p  id "large-1"  in $10  out $30 }
rule hard_one { when last has hard then large }
rule refused  { when tokens > 5k then refuse "too long" }
otherwise     { then small }
"""
NAMES = {"small": "p/small-1", "middle": "middle", "large": "large-1"}  # as the outcomes call them: any name of a model will do


def draw(*parts: object) -> int:
    return int(hashlib.md5(" ".join(map(str, parts)).encode()).hexdigest(), 16) % 100


def world(folder: Path, requests: int = 150, last_first: bool = False) -> tuple[Path, Path]:
    """A trace and its outcomes: request 3 lacks one, request 4 all, 5 is refused, 6 comes twice."""
    trace, outcomes = [], []
    for number in range(requests):
        text = ("Prove it " if draw("hard", number) < 30 else "Say it ") + str(number)
        tokens = 9_000 if number == 5 else 100 + number
        trace.append(
            {
                "request_id": f"r{number}",
                "user_id": f"u{number}",
                "input_tokens": tokens,
                "messages": json.dumps([{"role": "user", "content": text}]),
            }
        )
        outcomes += [
            {"request_id": f"r{number}", "model": name, "output_tokens": 10 + draw("out", number, model), "latency_ms": 100.0 + draw("ms", number, model),
             "score": str(Decimal(draw("score", number, model)) / 100)}
            for model, name in NAMES.items() if number != 4 and (number, model) != (3, "middle")
        ]  # fmt: skip
    trace.append(trace[6])
    if last_first:
        outcomes.reverse()
    trace[-1] = trace[-1] | {"user_id": "another"}
    return write(folder / "trace.jsonl", trace), write(folder / "outcomes.jsonl", outcomes)


def expected(policy: Policy, trace: Path, outcomes: Path) -> dict[str, dict[int, tuple[int, int, float]]]:
    """For each arm: request to picodollars, millionths and latency, in plain Python."""
    prices = catalog().for_policy(policy)
    aliases = {alias: model for model, alias in NAMES.items()}
    rows: dict[int, dict[str, tuple[int, int, float]]] = {}
    asked = {row["request_id"]: row for row in map(json.loads, trace.read_text("utf-8").splitlines())}
    for row in map(json.loads, outcomes.read_text("utf-8").splitlines()):
        model = aliases[row["model"]]
        priced = cost(Usage(asked[row["request_id"]]["input_tokens"], row["output_tokens"]), prices[model], None)
        assert priced is not None
        score = int(Decimal(row["score"]) * MICRO)
        rows.setdefault(int(row["request_id"][1:]), {})[model] = (priced.picodollars, score, row["latency_ms"])
    full = {number: cells for number, cells in rows.items() if len(cells) == len(NAMES) and number != 5}
    arms = {model: {number: cells[model] for number, cells in full.items()} for model in NAMES}
    arms["policy"] = {number: cells["large" if draw("hard", number) < 30 else "small"] for number, cells in full.items()}
    arms["oracle"] = {number: min(cells.values(), key=lambda cell: (-cell[1], cell[0])) for number, cells in full.items()}
    return arms


def test_panel_is_the_plain_reckoning(tmp_path: Path) -> None:
    policy = policy_from(WORLD)
    trace, outcomes = world(tmp_path)
    found, arms = panel(policy, trace, outcomes), expected(policy, trace, outcomes)
    requests = len(arms["policy"])
    assert (found["requests"]["decided"], found["requests"]["compared"], found["requests"]["repeated_rows"]) == (150, requests, 1)
    assert [line["requests"] for line in found["requests"]["left_out"]] == [1, 1, 1] and requests == 147
    lines = {"policy": found["policy"], "oracle": found["oracle"]} | {line["name"]: line for line in found["singles"]}
    assert set(lines) == set(arms)
    for name, line in lines.items():
        cells = arms[name].values()
        assert picodollars(line["cost_usd"]) == sum(cell[0] for cell in cells), name
        assert Decimal(line["score"]) == round(Decimal(sum(cell[1] for cell in cells)) / requests / MICRO, 6)
        ordered = sorted(cell[2] for cell in cells)
        assert Decimal(line["latency_ms_median"]) == Decimal(str(ordered[-(-requests // 2) - 1]))
        assert Decimal(line["latency_ms_p95"]) == Decimal(str(ordered[-(-requests * 95 // 100) - 1]))


def test_comparisons_are_the_plain_reckoning(tmp_path: Path) -> None:
    policy = policy_from(WORLD)
    trace, outcomes = world(tmp_path)
    found, arms = panel(policy, trace, outcomes), expected(policy, trace, outcomes)
    total = {
        name: (sum(cell[0] for cell in cells.values()), sum(cell[1] for cell in cells.values())) for name, cells in arms.items()
    }
    ours, singles = total["policy"], {name: total[name] for name in NAMES}
    cheaper = [name for name in singles if singles[name][0] <= ours[0]]
    equal = [name for name in singles if singles[name][1] >= ours[1]]
    best = max(cheaper, key=lambda name: singles[name][1])
    assert found["best_single_at_cost"]["name"] == best
    assert (found["best_single_at_quality"] or {}).get("name") == min(equal, key=lambda name: singles[name][0], default=None)
    low, high = map(Decimal, found["best_single_at_cost"]["score_difference_interval"])
    difference = Decimal(found["best_single_at_cost"]["score_difference"])
    assert difference == round(Decimal(ours[1] - singles[best][1]) / len(arms["policy"]) / MICRO, 6)
    assert low < difference < high
    ends = [Decimal(end) for end in found["random_mix"]["gain_interval"]]
    assert ends[0] < Decimal(found["random_mix"]["gain"]) < ends[1]


def test_order_and_threads_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    policy = policy_from(WORLD)
    one = panel(policy, *world(tmp_path / "a"), threads=1)
    two = panel(policy, *world(tmp_path / "b", last_first=True), threads=2)
    for found in (one, two):
        found["outcomes"].pop("digest")
    assert one == two


def test_requests_without_an_id_are_matched_by_their_prompt(tmp_path: Path) -> None:
    """A file with a column per model is trace and outcomes at once; a longer conversation that ends alike is another request."""
    rows = [{"prompt": f"Prove {number}", "small-1": True, "large-1": number % 2 == 0, "middle-1": True} for number in range(8)]
    path = write(tmp_path / "wide.parquet", rows)
    assert panel(policy_from(WORLD), path, path)["requests"]["compared"] == 8
    chat = [{"role": "user", "content": "No"}, {"role": "assistant", "content": "Why?"}, {"role": "user", "content": "Prove 1"}]
    system = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Prove 2"}]
    trace = write(tmp_path / "trace.jsonl", [{"messages": json.dumps(chat)}, {"messages": json.dumps(system)}])
    assert panel(policy_from(WORLD), trace, path)["requests"]["compared"] == 1


def test_no_output_tokens_anywhere(tmp_path: Path) -> None:
    """Then costs are of the input, and the panel says so; a trace that has them lends them to every model."""
    trace, outcomes = world(tmp_path)
    rows = [json.loads(line) for line in outcomes.read_text("utf-8").splitlines()]
    write(outcomes, [{name: value for name, value in row.items() if name != "output_tokens"} for row in rows])
    found = panel(policy_from(WORLD), trace, outcomes)
    assert found["output_tokens"] == "input only" and "costs are of the input alone" in found["assumptions"][0]
    held = [json.loads(line) | {"output_tokens": 7} for line in trace.read_text("utf-8").splitlines()]
    found = panel(policy_from(WORLD), write(trace, held), outcomes)
    small = next(line for line in found["singles"] if line["name"] == "small")
    inputs = [100 + number for number in range(150) if number not in (3, 4, 5)]
    assert found["output_tokens"] == "held"
    assert picodollars(small["cost_usd"]) == sum(tokens * 10**6 + 7 * 2 * 10**6 for tokens in inputs)


# -- models ------------------------------------------------------------------------------------------------------------


def test_models_are_sorted_out(tmp_path: Path) -> None:
    """Undeclared ones with a price are compared where they answered everything; others are named, not dropped in silence."""
    trace, outcomes = world(tmp_path)
    rows = [json.loads(line) for line in outcomes.read_text("utf-8").splitlines()]
    smalls = [row for row in rows if row["model"] == NAMES["small"]]
    rows += [row | {"model": "gpt-4o-mini"} for row in smalls] + [row | {"model": "gpt-4o"} for row in smalls[:20]]
    rows += [row | {"model": "unheard-of"} for row in smalls]
    policy = policy_from(WORLD.replace("rule hard_one", 'model idle { provider p  id "idle-1"  in $1  out $1 }\nrule hard_one'))
    found = panel(policy, trace, write(outcomes, rows))
    assert found["models"]["unpriced"] == ["unheard-of"] and found["models"]["without_outcomes"] == ["idle"]
    assert [line["model"] for line in found["models"]["not_everywhere"]] == ["gpt-4o"]
    assert [line["name"] for line in found["singles"] if not line["declared"]] == ["gpt-4o-mini"]


def test_one_model_under_two_names(tmp_path: Path) -> None:
    trace, outcomes = world(tmp_path)
    rows = [json.loads(line) for line in outcomes.read_text("utf-8").splitlines()]
    rows += [row | {"model": "small"} for row in rows if row["model"] == NAMES["small"]]
    with pytest.raises(TraceError, match="one model by 2 names: `p/small-1`, `small`"):
        panel(policy_from(WORLD), trace, write(outcomes, rows))


def test_ids_that_do_not_meet(tmp_path: Path) -> None:
    trace, outcomes = world(tmp_path)
    rows = [json.loads(line) for line in outcomes.read_text("utf-8").splitlines()]
    found = panel(policy_from(WORLD), trace, write(outcomes, [row | {"request_id": f"x{row['request_id']}"} for row in rows]))
    assert found["policy"] is None and found["verdict"]["word"] == "not enough data" and "`xr0`" in found["verdict"]["sentence"]
    assert "not enough data" in printed(found) and "not enough data" in quality_markdown(found)


def test_numbered_for_a_replay(tmp_path: Path) -> None:
    """The table that paired output lengths are read from: the replay's own numbers, declared models and recorded ones."""
    trace, outcomes = world(tmp_path)
    rows = [json.loads(line) for line in trace.read_text("utf-8").splitlines()]
    trace = write(trace, [row | {"model": "gpt-4o-mini"} for row in rows])
    more = [json.loads(line) for line in outcomes.read_text("utf-8").splitlines()]
    more += [row | {"model": "gpt-4o-mini"} for row in more[:3]]
    policy = policy_from(WORLD)
    with prepared([policy], [trace], catalog(), Options(), silent) as ready:
        opened = open_outcomes(write(outcomes, more[:3] + more[-3:-2]), ready.connection)
        numbers = served_numbers(policy, ready.served, opened)
        name = opened.numbered(numbers)
        found = ready.connection.sql(f"SELECT request_id, number FROM {name} ORDER BY ALL").fetchall()
    assert numbers == {"p/small-1": 0, "middle": 1, "large-1": 2, "gpt-4o-mini": 3}
    assert found == [("r0", 0), ("r0", 1), ("r0", 2), ("r0", 3)]


# -- verdict -----------------------------------------------------------------------------------------------------------


def made(policy: tuple[str, str], singles: dict[str, tuple[str, str]], **found: Any) -> Json:
    """A panel with just what a verdict reads."""

    def line(price: str, score: str) -> Json:
        return {"cost_usd": price, "cost_per_1k_usd": price, "score": score, "score_in_scale": score}

    mix = {"cheap": "a", "dear": "b", "gain": "0.01", "gain_interval": ["-0.01", "0.03"]}
    return {
        "policy": line(*policy), "singles": [line(*pair) | {"name": name} for name, pair in singles.items()],
        "best_single_at_cost": None, "best_single_at_quality": None, "random_mix": mix | found.pop("mix", {}), **found,
    }  # fmt: skip


def against(name: str, difference: str, low: str, high: str) -> Json:
    return {"name": name, "score_difference": difference, "score_difference_interval": [low, high]}


SINGLES = {"a": ("1", "0.5"), "b": ("4", "0.9")}
ABOVE = against("a", "0.2", "0.1", "0.3")
VERDICTS: tuple[tuple[Json, int, str, str, int | None], ...] = (
    (made(("2", "0.7"), SINGLES, best_single_at_cost=ABOVE, mix={"gain": "0.07", "gain_interval": ["0.01", "0.13"]}), 500, "route", "+7.00 points of 100 (+1.00 to +13.00)", None),
    (made(("2", "0.7"), SINGLES, best_single_at_cost=ABOVE, mix={"gain": "0.07", "gain_interval": ["0.01", "0.13"]}), 99, "not enough data", "99 clusters", None),
    (made(("2", "0.7"), SINGLES, best_single_at_cost=ABOVE), 500, "do not route", "about 4,000 requests would tell", 4_000),
    (made(("2", "0.7"), SINGLES, best_single_at_cost=ABOVE, mix={"gain": "-0.07", "gain_interval": ["-0.1", "-0.04"]}), 500, "do not route", "a random mix of a and b scores more", None),
    (made(("2", "0.51"), SINGLES, best_single_at_cost=against("a", "0.01", "-0.01", "0.03")), 500, "do not route", "a alone gives the same quality for less", 4_000),
    (made(("2", "0.4"), SINGLES, best_single_at_quality=against("a", "-0.1", "-0.2", "0.0")), 500, "do not route", "a alone gives the same quality for less", None),
    (made(("2", "0.4"), SINGLES, best_single_at_quality=against("a", "-0.1", "-0.2", "-0.01")), 500, "do not route", "a alone gives better quality for less", None),
    (made(("1", "0.5"), SINGLES, best_single_at_quality=against("a", "0", "0", "0")), 500, "do not route", "a alone gives the same quality at the same price", None),
)  # fmt: skip


@pytest.mark.parametrize(("found", "clusters", "word", "text", "needed"), VERDICTS)
def test_verdict(found: Json, clusters: int, word: str, text: str, needed: int | None) -> None:
    said = verdict(found, 1_000, clusters)
    assert (said["word"], said["requests_needed"]) == (word, needed)
    assert text in said["sentence"]


# -- shown -------------------------------------------------------------------------------------------------------------


def printed(found: Json, width: int = 140) -> str:
    stream = io.StringIO()
    show(found, Console(file=stream, width=width))
    return stream.getvalue()


def sample() -> Json:
    return panel(
        policy_of("policies/bench/sample.route"),
        ROOT / "traces" / "bench_requests.parquet",
        ROOT / "traces" / "bench_outcomes.parquet",
    )


def test_the_sample_routes() -> None:
    """The invented example is made so that words pay; what is shown is what the panel holds."""
    found = sample()
    assert found["verdict"]["word"] == "route" and found["requests"]["compared"] == 600
    text = printed(found)
    assert found["verdict"]["sentence"] in text and "sample" in text and "oracle" in text
    page = quality_markdown(found)
    assert page.startswith("**route: ") and page.count("\n| ") == 2 + len(found["singles"]) + 2
    assert json.loads(json.dumps(found)) == found


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """Names of models may hold what rich or Markdown takes for markup."""
    trace, outcomes = world(tmp_path)
    rows = [json.loads(line) for line in outcomes.read_text("utf-8").splitlines()]
    rows += [row | {"model": "[red]a|b*"} for row in rows if row["model"] == NAMES["small"]]
    found = panel(policy_from(WORLD), trace, write(outcomes, rows))
    assert "[red]a|b*" in printed(found, 200) and "[red]a\\|b\\*" in quality_markdown(found)


def test_the_sample_is_made_by_its_script(tmp_path: Path) -> None:
    from tests.test_examples import script

    script("make_bench_traces").main(tmp_path)
    for name in ("bench_requests", "bench_outcomes"):
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(pq.read_table(ROOT / "traces" / f"{name}.parquet"))


# -- what was recorded elsewhere -----------------------------------------------------------------------------------------

# Policy, outcomes, options, compared requests, the policy's score, the verdict, and what it names.
BENCHES = (
    ("bfcl", "bfcl_2024-08/requests.parquet", "bfcl_2024-08/model_results.parquet", 1_110, "0.849550", "gpt_4o_mini alone gives the same quality for less"),
    ("arena", "arena_bench_v1/question.jsonl", "arena_bench_v1", 281, "0.711348", "a random mix of gpt_3_5 and gpt_4_1106 scores as much"),
    ("routellm", "routellm/mmlu_responses_a.parquet", "routellm/mmlu_responses_a.parquet", 7_634, "0.746791", "a random mix of weak and strong scores more"),
    ("routellm", "routellm/gsm8k_responses.parquet", "routellm/gsm8k_responses.parquet", 1_319, "0.822593", "a random mix of weak and strong scores as much"),
)  # fmt: skip


@needs_data
@pytest.mark.parametrize(("name", "trace", "outcomes", "compared", "score", "text"), BENCHES)
def test_benches(name: str, trace: str, outcomes: str, compared: int, score: str, text: str, tmp_path: Path) -> None:
    """The three example policies, adapted and not tuned, beat no single model."""
    mapping = {"messages": "turns", "request_id": "question_id"} if name == "arena" else {}
    path = DATA / trace
    if name == "bfcl":  # beside the answers the requests would be read once per model
        path = Path(shutil.copy(path, tmp_path))
    found = panel(policy_of(f"policies/bench/{name}.route"), path, DATA / outcomes, mapping=mapping)
    assert (found["requests"]["compared"], found["policy"]["score"]) == (compared, score)
    assert found["verdict"]["word"] == "do not route" and text in found["verdict"]["sentence"]
