"""Off-policy estimates against an independent computation, against `obp`, and against synthetic worlds whose truth is known."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import md5
from io import StringIO
from math import isqrt, sqrt
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from rich.console import Console

from policyroute.backends.probability import TARGET, Probabilities
from policyroute.backends.sql import RULE
from policyroute.language import Policy
from policyroute.language.reference import decide
from policyroute.render.offpolicy import offpolicy as render
from policyroute.replay.offpolicy.estimate import estimate
from policyroute.replay.offpolicy.log import Requests, requests
from policyroute.replay.options import Options, SimulationError, silent
from policyroute.replay.prepare import prepared
from tests.simulate_support import Json, catalog, policy_from

MODELS = """
model a { provider openai  id "a-1"  in $1  out $2 }
model b { provider openai  id "b-1"  in $5  out $9 }
tier ab = a, b
tier ba = b, a
"""
EXPLORING = MODELS + "rule long { when tokens > 500 then ba }\notherwise { then ab }\nexplore 25% by user"
SPLITTING = (
    MODELS
    + "rule long { when tokens > 500 then split by user { 50% a, 50% b } }\notherwise { then split by user { 80% a, 20% b } }"
)
TO_B = MODELS + "rule long { when tokens > 800 then a }\notherwise { then b }"
MIXED = MODELS + "rule long { when tokens > 300 then split by user { 30% a, 70% b } }\notherwise { then a }\n"

Row = dict[str, Any]


# -- synthetic worlds ------------------------------------------------------------------------------------------------


def quality(tokens: int, model: str) -> float:
    """The chance of a good answer: `a` is good at short requests, `b` at long ones."""
    return 0.8 - 0.4 * (tokens / 1000) if model == "a" else 0.5 + 0.2 * (tokens / 1000)


def chances(policy: Policy, rows: Sequence[Row]) -> list[tuple[int, list[int], int]]:
    """Rule, the probability of each model in parts, and the whole, per row."""
    query = Probabilities(policy)
    with duckdb.connect() as connection:
        connection.register("rows", pa.table({name: [row[name] for row in rows] for name in ("tokens", "user", "row")}))
        found = connection.sql(f"SELECT {RULE}, {TARGET} FROM ({query.over('rows')}) ORDER BY row").fetchall()
    return [(rule, target, query.denominator) for rule, target in found]


def world(
    logging: Policy, target: Policy, *, users: int, seed: int, outcome: Callable[[random.Random, int, str], Any] | None = None
) -> list[Row]:
    """Requests as the logging policy served them: the reference decides, and what it chose gives the outcome."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for user in range(users):
        for _ in range(min(1 + int(chance.expovariate(0.7)), 20)):
            rows.append({"row": len(rows), "user": f"world {seed} user {user}", "tokens": chance.randrange(1000)})
    models = list(target.models)
    for row, (_, logged, whole), (stratum, wanted, denominator) in zip(
        rows, chances(logging, rows), chances(target, rows), strict=True
    ):
        model = decide(logging, row).chain[0]
        number = models.index(model)
        good = outcome(chance, row["tokens"], model) if outcome else chance.random() < quality(row["tokens"], model)
        row |= {"stratum": stratum, "target": wanted, "logged": number, "propensity": logged[number] / whole, "outcome": good}
        row |= {"bag": md5(row["user"].encode()).hexdigest()[:4], "denominator": denominator}
    return rows


def truth(target: Policy) -> float:
    """The mean outcome under a policy that splits or doesn't, over uniform lengths."""
    rows: list[Row] = [{"row": tokens, "user": "u", "tokens": tokens} for tokens in range(1000)]
    parts = chances(target, rows)
    return sum(
        sum(part / whole * quality(row["tokens"], model) for part, model in zip(wanted, target.models, strict=True))
        for row, (_, wanted, whole) in zip(rows, parts, strict=True)
    ) / len(rows)


def estimated(rows: Sequence[Row], *, threads: int = 1, seconds: int | None = None) -> Json:
    columns = ("bag", "stratum", "target", "logged", "propensity", "outcome")
    kinds = {"target": pa.list_(pa.int64()), "propensity": pa.float64(), "logged": pa.int32()}
    with duckdb.connect(config={"threads": threads}) as connection:
        connection.register("log", pa.table({name: pa.array([row[name] for row in rows], kinds.get(name)) for name in columns}))
        return estimate(connection, Requests("SELECT * FROM log", rows[0]["denominator"], "good"), seconds)


# -- the same by hand ------------------------------------------------------------------------------------------------


@dataclass
class ByHand:
    """Estimates straight from the formulas, row by row, in floats; clusters are the bags."""

    rows: Sequence[Row]

    def __post_init__(self) -> None:
        self.n = len(self.rows)
        self.pi = [[part / row["denominator"] for part in row["target"]] for row in self.rows]
        self.w = [
            pi[row["logged"]] / row["propensity"] if row["logged"] < len(pi) else 0.0
            for row, pi in zip(self.rows, self.pi, strict=True)
        ]
        self.v = [min(w, isqrt(self.n)) for w in self.w]
        self.y = [float(row["outcome"]) for row in self.rows]
        self.half = [md5(row["bag"].encode()).hexdigest() < "8" for row in self.rows]
        self.q = [
            [self.mean(number, row["stratum"], model) for model in range(len(pi))]
            for number, (row, pi) in enumerate(zip(self.rows, self.pi, strict=True))
        ]
        self.q_logged = [self.mean(number, row["stratum"], row["logged"]) for number, row in enumerate(self.rows)]

    def mean(self, number: int, stratum: int, model: int) -> float:
        half = self.half[number]
        if not hasattr(self, "known"):
            self.known: dict[Any, float] = {}
        key = (half, stratum, model)
        if key not in self.known:
            others = [i for i in range(self.n) if self.half[i] != half]
            own = [i for i in others if self.rows[i]["logged"] == model]
            cell = [i for i in own if self.rows[i]["stratum"] == stratum]
            self.known[key] = next((sum(self.y[i] for i in part) / len(part) for part in (cell, own, others) if part), 0.0)
        return self.known[key]

    def influences(self, estimator: str) -> tuple[float, list[float]]:
        whole = sum(self.v)
        logged = sum(self.y) / self.n
        if estimator == "logged":
            return logged, [(y - logged) / self.n for y in self.y]
        if estimator == "snips":
            value = sum(v * y for v, y in zip(self.v, self.y, strict=True)) / whole
            return value, [v * (y - value) / whole for v, y in zip(self.v, self.y, strict=True)]
        direct = [sum(p * q for p, q in zip(pi, qs, strict=True)) for pi, qs in zip(self.pi, self.q, strict=True)]
        residual = [y - q for y, q in zip(self.y, self.q_logged, strict=True)]
        first = sum(direct) / self.n
        second = sum(v * r for v, r in zip(self.v, residual, strict=True)) / whole
        parts = zip(direct, self.v, residual, strict=True)
        return first + second, [(d - first) / self.n + v * (r - second) / whole for d, v, r in parts]

    def error(self, influences: Sequence[float]) -> float:
        sums: dict[str, float] = {}
        for row, one in zip(self.rows, influences, strict=True):
            sums[row["bag"]] = sums.get(row["bag"], 0.0) + one
        return sqrt(sum(one * one for one in sums.values()) * len(sums) / (len(sums) - 1))


WORLDS = {"explored": (EXPLORING, TO_B), "split": (SPLITTING, MIXED), "half": (SPLITTING, TO_B)}


def binary(name: str, seed: int = 1, users: int = 400) -> list[Row]:
    logging, target = (policy_from(text) for text in WORLDS[name])
    return world(logging, target, users=users, seed=seed)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("scale", [1, 1e-6, 40_000])
def test_agrees_with_a_slow_computation(name: str, scale: float) -> None:
    """Estimates, differences, errors and diagnostics are those of the formulas, whatever the outcome's unit."""
    rows = [{**row, "outcome": float(row["outcome"]) * scale * (1 + row["tokens"] / 7)} for row in binary(name)]
    found, hand = estimated(rows), ByHand(rows)
    assert found["refusals"] == []
    close = pytest.approx
    for estimator in ("logged", "snips", "dr"):
        value, influences = hand.influences(estimator)
        line = found["estimates"][estimator]
        reach = 1.959963984540054 * hand.error(influences)
        assert float(line["value"]) == close(value, abs=1e-5 * max(hand.y))
        assert [float(end) for end in line["interval"]] == close([value - reach, value + reach], abs=1e-5 * max(hand.y))
        if estimator != "logged":
            logged, theirs = hand.influences("logged")
            assert float(line["difference"]) == close(value - logged, abs=1e-5 * max(hand.y))
            error = hand.error([a - b for a, b in zip(influences, theirs, strict=True)])
            assert float(line["difference_error"]) == close(error, abs=1e-5 * max(hand.y))
    overlap = found["overlap"]
    assert float(overlap["effective_sample"]) == close(sum(hand.w) ** 2 / sum(w * w for w in hand.w), abs=0.1)
    assert float(overlap["largest_weight"]) == close(max(hand.w), abs=0.01)
    assert float(overlap["mean_weight"]) == close(sum(hand.w) / hand.n, abs=0.001)
    top = sorted(hand.w, reverse=True)[: (hand.n + 99) // 100]
    assert float(overlap["top_1_percent_hold_percent"]) == close(100 * sum(top) / sum(hand.w), abs=0.01)


@pytest.mark.parametrize("name", WORLDS)
def test_agrees_with_obp(name: str) -> None:
    """SNIPW and self-normalised DR of the Open Bandit Pipeline, given the same outcome model, are ours."""
    estimators = pytest.importorskip("obp.ope.estimators", reason="obp is not installed", exc_type=ImportError)
    numpy = pytest.importorskip("numpy")
    rows = binary(name)
    hand = ByHand(rows)
    found = estimated(rows)
    assert found["clip"]["rows"] == 0
    given = {
        "reward": numpy.array(hand.y), "action": numpy.array([row["logged"] for row in rows]), "pscore": numpy.array([row["propensity"] for row in rows]),
        "action_dist": numpy.array(hand.pi)[:, :, None], "position": numpy.zeros(len(rows), dtype=int),
    }  # fmt: skip
    snips = estimators.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given)
    dr = estimators.SelfNormalizedDoublyRobust().estimate_policy_value(
        **given, estimated_rewards_by_reg_model=numpy.array(hand.q)[:, :, None]
    )
    assert float(found["estimates"]["snips"]["value"]) == pytest.approx(snips, abs=2e-6)
    assert float(found["estimates"]["dr"]["value"]) == pytest.approx(dr, abs=2e-6)


# -- known truth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover_the_truth(name: str) -> None:
    """In 30 worlds of 500 users, a nominal 95 % interval of the mean covers the truth in at least 25 (chance of less: 1 in 300)."""
    logging, target = (policy_from(text) for text in WORLDS[name])
    wanted = truth(target)
    covered = {"snips": 0, "dr": 0}
    for seed in range(30):
        lines = estimated(world(logging, target, users=500, seed=seed))["estimates"]
        for estimator in covered:
            low, high = (float(end) for end in lines[estimator]["interval"])
            covered[estimator] += low <= wanted <= high
    assert min(covered.values()) >= 25, covered


def test_the_logged_mean_alone_would_mislead() -> None:
    """The difference is found with its sign, and its interval leaves out 0."""
    rows = binary("explored", users=3_000)
    logging, target = (policy_from(text) for text in WORLDS["explored"])
    lines = estimated(rows)["estimates"]
    wanted = truth(target) - sum(
        sum(part / whole * quality(row["tokens"], model) for part, model in zip(parts, "ab", strict=True))
        for row, (_, parts, whole) in zip(rows, chances(logging, rows), strict=True)
    ) / len(rows)
    for estimator in ("snips", "dr"):
        low, high = (float(end) for end in lines[estimator]["difference_interval"])
        assert low < wanted < high < 0


def test_nothing_changes_where_the_policy_is_the_log() -> None:
    """The logging policy itself: weights of 1, no difference but DR's, which averages over the policy's chances."""
    policy = policy_from(SPLITTING)
    found = estimated(world(policy, policy, users=200, seed=3))
    assert (found["overlap"]["largest_weight"], found["overlap"]["mean_weight"]) == ("1.00", "1.000")
    assert found["estimates"]["snips"]["difference_interval"] == ["0.000000", "0.000000"]
    low, high = (float(end) for end in found["estimates"]["dr"]["difference_interval"])
    assert low < 0 < high and high - low < 0.1


def test_order_and_threads_change_no_digit() -> None:
    rows = [{**row, "outcome": 0.1 * row["tokens"] + 1 / 3} for row in binary("split", users=500)]
    shuffled = random.Random(5).sample(rows, len(rows))
    wanted = json.dumps(estimated(rows))
    assert [json.dumps(estimated(shuffled, threads=threads)) for threads in (1, 4)] == [wanted, wanted]


# -- overlap ---------------------------------------------------------------------------------------------------------


def test_certain_choices_identify_nothing() -> None:
    """Where no choice was left to chance and the policy chooses otherwise, one sentence says so."""
    certain = policy_from(MODELS + "otherwise { then a }")
    found = estimated(world(certain, policy_from(TO_B), users=300, seed=1))
    assert (found["identifiable"], found["estimates"]) == (False, None)
    assert found["sentence"].startswith(
        "quality is not identifiable from these traces: every choice was certain (propensity 1), and the policy makes another"
    )
    assert "`explore 1% by user`" in found["remedy"] and "--outcomes FILE" in found["remedy"]


def test_certain_choices_that_stay_the_same() -> None:
    policy = policy_from(TO_B)
    found = estimated(world(policy, policy, users=300, seed=1))
    assert found["identifiable"] and found["estimates"]["snips"]["difference"] == "0.000000"


@pytest.mark.parametrize("propensity", [None, 0.0, -0.5, 1.5, float("nan")])
def test_no_usable_propensity(propensity: float | None) -> None:
    rows = [{**row, "propensity": propensity} for row in binary("split", users=50)]
    found = estimated(rows)
    assert found["identifiable"] is False and found["overlap"] is None
    assert found["left_out"] == [
        {"why": "it has no propensity" if propensity is None else "its propensity is not above 0 and up to 1", "rows": len(rows)}
    ]
    assert ("no request carries the propensity of its model" in found["sentence"]) == (propensity is None)


def test_unsupported_choices_are_refused() -> None:
    """A third of the requests was certain of `a`, and the policy wants `b` there."""
    logging = policy_from(MODELS + "rule fixed { when tokens < 333 then a }\notherwise { then split by user { 50% a, 50% b } }")
    found = estimated(world(logging, policy_from(MODELS + "otherwise { then b }"), users=2_000, seed=2), seconds=86_400 * 7)
    assert found["identifiable"] and found["estimates"] is None
    (refusal,) = found["refusals"]
    assert abs(float(found["overlap"]["unsupported_percent"]) - 33.3) < 3
    assert (
        refusal
        == f"{found['overlap']['unsupported_percent']} % of the policy's choices are models that the log never gave a chance (over 5 %)"
    )
    assert "`explore 1% by user`" in found["remedy"] and "days at this trace's pace" in found["remedy"]


def test_a_model_that_chance_never_took_is_unsupported() -> None:
    """The log left something to chance, but never for the model that the policy wants."""
    third = MODELS + 'model c { id "c-1" in $1 out $1 }\n'
    logging = policy_from(third + "otherwise { then split by user { 50% a, 50% b } }")
    found = estimated(world(logging, policy_from(third + "otherwise { then split by user { 90% a, 10% c } }"), users=800, seed=2))
    assert found["overlap"]["unsupported_percent"] == "10.00"
    assert len(found["refusals"]) == 1 and found["estimates"] is None


def test_a_small_effective_sample_is_refused() -> None:
    """One percent explored of 1,000 requests carries no estimate, and the remedy says how much would."""
    logging = policy_from(MODELS + "otherwise { then ab }\nexplore 2% by user")
    found = estimated(world(logging, policy_from(MODELS + "otherwise { then b }"), users=1_000, seed=2))
    assert found["refusals"] == [f"the effective sample is {found['overlap']['effective_sample']} requests (under 100)"]
    assert found["estimates"] is None and "requests as these were logged" in found["remedy"]


def test_unmoved_requests_lend_no_strength() -> None:
    """Nine in ten requests stay as they are: what counts is the effective sample of those that are moved."""
    logging = policy_from(MODELS + "otherwise { then ab }\nexplore 2% by user")
    target = policy_from(MODELS + "rule few { when tokens < 100 then b }\notherwise { then a }")
    found = estimated(world(logging, target, users=4_000, seed=2))
    assert float(found["overlap"]["effective_sample"]) > 100 > float(found["overlap"]["moved_effective_sample"])
    assert abs(float(found["overlap"]["moved_percent"]) - 10) < 1
    assert [refusal.split(",")[0] for refusal in found["refusals"]] == ["among the requests that the policy moves"]


def test_propensities_of_arms_are_not_those_of_models() -> None:
    """Two arms lead to `a`; logging the arm's probability for the model's is noticed by the mean weight."""
    logging = policy_from(MODELS + "otherwise { then split by user { 40% a, 40% ab, 20% b } }")
    target = policy_from(MODELS + "otherwise { then split by user { 50% a, 50% b } }")
    rows = world(logging, target, users=1_500, seed=2)
    assert estimated(rows)["refusals"] == []
    found = estimated([{**row, "propensity": decide(logging, row).propensity} for row in rows])
    assert "propensities that fit would give 1" in found["refusals"][0] and "over all arms" in found["remedy"]


def test_clipping_is_reported() -> None:
    """Weights over the root of the number of requests are cut, counted and warned of."""
    logging = policy_from(MODELS + "otherwise { then split by user { 98% a, 2% b } }")
    target = policy_from(MODELS + "otherwise { then split by user { 10% a, 90% b } }")
    rows = world(logging, target, users=4_000, seed=2)
    rows = [
        {**row, "propensity": row["propensity"] / 3 if row["logged"] and row["row"] % 20 == 0 else row["propensity"]}
        for row in rows
    ]
    found = estimated(rows)
    hand = ByHand(rows)
    over = [w for w in hand.w if w > isqrt(len(rows))]
    assert found["clip"]["weight"] == isqrt(len(rows)) and found["clip"]["rows"] == len(over) > 0
    cut = 100 * sum(w - isqrt(len(rows)) for w in over) / sum(hand.w)
    assert float(found["clip"]["cut_percent"]) == pytest.approx(cut, abs=0.01)


def test_what_is_left_out_is_counted() -> None:
    rows = binary("split", users=400)
    spoilt: list[Row] = [
        {"target": None}, {"target": [0, 0]}, {"target": [1, 0]}, {"logged": None}, {"logged": -1}, {"outcome": None}, {"propensity": None},
        {"propensity": 2.0},
    ]  # fmt: skip
    mixed = [*({**rows[n], **change} for n, change in enumerate(spoilt)), *rows[len(spoilt) :]]
    found = estimated(mixed)
    assert [(line["why"].split()[-1], line["rows"]) for line in found["left_out"]] == [
        ("tell", 1), ("it", 2), ("answered", 2), ("outcome", 1), ("propensity", 1), ("1", 1),
    ]  # fmt: skip
    clean = estimated(rows[len(spoilt) :])
    assert (found["estimates"], found["used_rows"]) == (clean["estimates"], len(rows) - len(spoilt))


def test_a_model_outside_the_policy_weighs_nothing() -> None:
    """It counts in the logged mean, and the policy never chooses it."""
    rows = [{**row, "logged": 7, "propensity": 0.5} if row["row"] % 9 == 0 else row for row in binary("half", users=800)]
    found = estimated(rows)
    hand = ByHand(rows)
    assert float(found["overlap"]["effective_sample"]) == pytest.approx(sum(hand.w) ** 2 / sum(w * w for w in hand.w), abs=0.1)


@pytest.mark.parametrize(("users", "warned"), [(90, True), (400, False)])
def test_few_clusters_are_warned_of(users: int, *, warned: bool) -> None:
    found = estimated(binary("split", users=users))
    assert any("clusters are too few" in warning for warning in found["warnings"]) == warned


# -- a trace ---------------------------------------------------------------------------------------------------------


def trace_of(rows: Sequence[Row], target: Path, *, change: Callable[[Row], Row] = lambda call: call) -> Path:
    """The requests as the JSON lines that a gateway would write."""
    calls = [
        {
            "ts": f"2026-05-0{1 + row['row'] % 7}T10:00:00Z", "user_id": row["user"], "provider": "openai", "model": f"{'ab'[row['logged']]}-1",
            "input_tokens": row["tokens"], "output_tokens": 10, "propensity": row["propensity"], "thumbs_up": bool(row["outcome"]),
        }
        for row in rows
    ]  # fmt: skip
    target.write_text("".join(json.dumps(change(call)) + "\n" for call in calls), "utf-8")
    return target


def from_trace(policy: Policy, *paths: Path, outcome: str = "thumbs_up") -> Json:
    with prepared([policy], list(paths), catalog(), Options(), silent) as ready:
        return estimate(ready.connection, requests(ready.views[0], ready.sources[0], outcome))


def test_from_a_trace_of_two_files(tmp_path: Path) -> None:
    """A trace gives the figures of the requests that were written into it, in one file or two."""
    rows = binary("explored", users=600)
    target = policy_from(TO_B)
    wanted = estimated(rows)
    whole = from_trace(target, trace_of(rows, tmp_path / "whole.jsonl"))
    parts = [trace_of(rows[:500], tmp_path / "1.jsonl"), trace_of(rows[500:], tmp_path / "2.jsonl")]
    assert whole["estimates"] == wanted["estimates"] and whole["overlap"] == wanted["overlap"]
    assert json.dumps(from_trace(target, *parts)) == json.dumps(whole)


def test_a_trace_without_propensities(tmp_path: Path) -> None:
    def without(call: Row) -> Row:
        return {name: value for name, value in call.items() if name != "propensity"}

    found = from_trace(policy_from(TO_B), trace_of(binary("split", users=30), tmp_path / "log.jsonl", change=without))
    assert found["sentence"] == "quality is not identifiable from these traces: no request carries the propensity of its model"


def test_no_such_outcome(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="no column `smiles`") as caught:
        from_trace(policy_from(TO_B), trace_of(binary("split", users=30), tmp_path / "log.jsonl"), outcome="smiles")
    assert "`thumbs_up`" in caught.value.help


def test_refused_requests_are_left_out(tmp_path: Path) -> None:
    rows = binary("explored", users=600)
    policy = policy_from(
        MODELS + 'rule no { when tokens >= 900 then refuse "no" }\notherwise { then split by user { 50% a, 50% b } }'
    )
    found = from_trace(policy, trace_of(rows, tmp_path / "log.jsonl"))
    refused = sum(row["tokens"] >= 900 for row in rows)
    assert found["left_out"] == [{"why": "the policy may refuse it, or may find no model for it", "rows": refused}]


# -- the terminal ----------------------------------------------------------------------------------------------------


def shown(found: Json) -> str:
    out = StringIO()
    render(found, Console(file=out, width=140, highlight=False, emoji=False))
    return out.getvalue()


def test_the_panel_shows_overlap_before_estimates() -> None:
    found = estimated(binary("explored", users=600))
    text = shown(found)
    assert text.index("overlap:") < text.index("doubly robust")
    for line in (found["estimates"]["dr"], found["estimates"]["snips"]):
        assert all(figure in text for figure in (line["value"], line["difference"], *line["difference_interval"]))


def test_the_panel_shows_a_refusal_with_its_remedy() -> None:
    certain = policy_from(MODELS + "otherwise { then a }")
    found = estimated(world(certain, policy_from(TO_B), users=100, seed=1))
    text = shown({**found, "outcome": "[bold]x"})
    assert (
        "Quality is not identifiable from these traces:" in text
        and "= help: put `explore 1% by user`" in text
        and "`[bold]x`" in text
    )


def test_whole_numbers_are_exact() -> None:
    """Clusters' sums are whole: the mean of an outcome of thirds has the six digits that are shown."""
    rows = [{**row, "outcome": Fraction(row["row"] % 3, 3).__float__()} for row in binary("split", users=300)]
    wanted = Fraction(sum(row["row"] % 3 for row in rows), 3 * len(rows))
    assert abs(Fraction(estimated(rows)["estimates"]["logged"]["value"]) - wanted) <= Fraction(1, 10**6)


def test_no_requests_at_all() -> None:
    """An empty log gives a sentence, not an error."""
    columns = "'0000' AS bag, 0 AS stratum, [CAST(1 AS BIGINT)] AS target, 0 AS logged, 1.0 AS propensity, 1 AS outcome"
    with duckdb.connect() as connection:
        found = estimate(connection, Requests(f"SELECT {columns} WHERE FALSE", 1, "good"))
        assert connection.sql("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert (found["identifiable"], found["rows"]) == (False, 0) and "there are none" in found["sentence"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("TRUE", "1.000000"), ("'true'", "1.000000"), ("'0.25'", "0.2500000"), ("0.25", "0.2500000"), ("1200::BIGINT", "1200.000")],
)
def test_outcomes_of_any_type(written: str, read: str) -> None:
    """A boolean counts as 0 or 1, and numbers written as text are numbers."""
    columns = f"'0000' AS bag, 0 AS stratum, [CAST(1 AS BIGINT)] AS target, 0 AS logged, 1.0 AS propensity, {written} AS outcome"
    with duckdb.connect() as connection:
        found = estimate(connection, Requests(f"SELECT {columns} FROM range(200)", 1, "good"))
    assert found["estimates"]["logged"] == {"value": read, "interval": None}


@pytest.mark.parametrize("written", ["'fine'", "'NaN'::DOUBLE", "'inf'::DOUBLE", "1e40"])
def test_outcomes_that_are_no_numbers(written: str) -> None:
    columns = f"'0000' AS bag, 0 AS stratum, [CAST(1 AS BIGINT)] AS target, 0 AS logged, 1.0 AS propensity, {written} AS outcome"
    with duckdb.connect() as connection:
        found = estimate(connection, Requests(f"SELECT {columns} FROM range(200)", 1, "good"))
    assert found["left_out"] == [{"why": "its outcome is no number", "rows": 200}]
