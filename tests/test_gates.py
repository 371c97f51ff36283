"""Gates: what a policy holds of them, where their traces are, and the three outcomes, over numbers and over a whole replay."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from policyroute.language import check_text
from policyroute.language.claims import METRICS
from policyroute.language.policy import Policy
from policyroute.language.statements import Gate
from policyroute.prices.catalog import complete
from policyroute.render.gates import gates as render
from policyroute.render.gates import measured, rows
from policyroute.replay.gates.estimates import of_outcomes, of_propensities
from policyroute.replay.gates.interval import drawn, drawn_share
from policyroute.replay.gates.judge import MEASURED, Estimate, exit_code, judge
from policyroute.replay.gates.sums import GateSums, chosen_gates, gate_bags, gate_baseline, gate_traces
from policyroute.replay.options import Options, SimulationError, silent
from policyroute.replay.prepare import prepared
from policyroute.replay.simulate import simulate
from tests.simulate_support import Json, catalog

MODELS = """
model mini  { provider openai  id "mini-1"  in $1  out $2  cached $0.50 }
model big   { provider openai  id "big-1"   in $10 out $20 }
tier cheap = mini
tier best  = big
"""
RULES = """
rule long { when tokens > 5k then refuse "too long" }
shadow rule tiny { when tokens < 60 then cheap }
rule short { when tokens < 100 then cheap }
otherwise { then best }
"""
WHOLE = MODELS + RULES


def policy_with(*requirements: str, against: str = "recorded", on: str = "t.parquet", rules: str = WHOLE) -> Policy:
    listed = "\n".join(f"  require {each}" for each in requirements)
    checked = check_text(f'edition 1\npolicy example\n{rules}\ngate release on "{on}" against {against} {{\n{listed}\n}}\n')
    assert not checked.failed, checked.diagnostics
    return complete(checked.policy, catalog())[0]


def gate_with(*requirements: str, **more: str) -> Gate:
    return policy_with(*requirements, **more).gates[0]


# -- what a policy holds -------------------------------------------------------------------------------------------


def test_every_metric_of_the_language_is_measured() -> None:
    assert set(MEASURED) == set(METRICS)


@pytest.mark.parametrize(
    ("written", "metric", "argument", "relation", "bound", "unit", "confidence"),
    [
        ("savings >= 20% at 95%", "savings", "", ">=", "20", "%", 9_500),
        ("savings >= $1_000.50", "savings", "", ">=", "1000.50", "$", None),
        ("cost < $0.000001 at 99.9%", "cost", "", "<", "0.000001", "$", 9_990),
        ("share(best) <= 0.125%", "share", "best", "<=", "0.125", "%", None),
        ("latency <= 2min", "latency", "", "<=", "120000", "ms", None),
        ("changed != 0%", "changed", "", "!=", "0", "%", None),
    ],
)
def test_requirements_are_exact(
    written: str, metric: str, argument: str, relation: str, bound: str, unit: str, confidence: int | None
) -> None:
    (found,) = gate_with(written).requirements
    assert (found.metric, found.argument, found.relation, found.unit, found.confidence) == (
        metric, argument, relation, unit, confidence,
    )  # fmt: skip
    assert found.bound == Decimal(bound) and found.text == written


def test_a_number_without_a_unit_is_no_time() -> None:
    checked = check_text(f'edition 1\npolicy example\n{WHOLE}\ngate g on "t" against recorded {{ require latency <= 800 }}\n')
    assert [found.code for found in checked.diagnostics] == ["unknown-metric"]


def test_gates_are_covered_by_the_digest_once_and_are_no_constructs() -> None:
    one, same, other = (policy_with(each) for each in ("cost <= $5", "cost   <=  $5", "cost <= $6"))
    assert one.constructs == () and [gate.name for gate in one.gates] == ["release"]
    assert one.digest == same.digest != other.digest


def test_gates_of_a_policy_are_chosen_by_name() -> None:
    policy = policy_with("cost <= $5")
    assert chosen_gates(policy, "release") == chosen_gates(policy, "all") == policy.gates
    with pytest.raises(SimulationError, match="no gate `releas`"):
        chosen_gates(policy, "releas")
    with pytest.raises(SimulationError, match="has no gate"):
        chosen_gates(check_text(f"edition 1\npolicy none\n{WHOLE}").policy, "all")


@pytest.mark.parametrize(("against", "baseline"), [("recorded", "recorded"), ("big", "big"), ("cheap", "mini")])
def test_a_tier_as_baseline_is_its_first_model(against: str, baseline: str) -> None:
    policy = policy_with("cost <= $5", against=against)
    assert gate_baseline(policy.gates[0], policy) == baseline


def test_traces_are_looked_for_here_and_then_beside_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, beside = tmp_path / "here", tmp_path / "poli[c]ies"
    for folder in (here, beside):
        folder.mkdir()
    monkeypatch.chdir(here)
    (beside / "a.jsonl").write_text("{}\n", "utf-8")
    policy = beside / "p.route"
    assert gate_traces(gate_with("cost <= $5", on="a.jsonl"), policy) == [beside / "a.jsonl"]
    (pattern,) = gate_traces(gate_with("cost <= $5", on="*.jsonl"), policy)
    assert "poli[[]c]ies" in str(pattern)
    (here / "a.jsonl").write_text("{}\n", "utf-8")
    assert gate_traces(gate_with("cost <= $5", on="a.jsonl"), policy) == ["a.jsonl"]
    assert gate_traces(gate_with("cost <= $5", on="*.jsonl"), policy) == ["*.jsonl"]
    (beside / "b.duckdb").write_bytes(b"")
    assert gate_traces(gate_with("cost <= $5", on="duckdb:b.duckdb/log"), policy) == [f"duckdb:{beside}/b.duckdb/log"]
    for missing in ("no.jsonl", "no*.jsonl", "duckdb:no.duckdb/log"):
        with pytest.raises(SimulationError, match="there is no such trace"):
            gate_traces(gate_with("cost <= $5", on=missing), policy)


# -- outcomes over numbers -----------------------------------------------------------------------------------------

NAMES = (
    "rows", "known", "money known", "old of all", "old", "new", "saved", "spend", "named", "compared", "changed", "refused",
    "in 0", "of 0", "answered", "timed", "latency",
)  # fmt: skip


def user(old: int = 100, new: int = 50, requests: int = 10, **more: int) -> dict[str, int]:
    """The sums of one user; money in millionths of a dollar."""
    money = {"old of all": old, "old": old, "new": new, "saved": old - new, "spend": old + new}
    counts = {name: requests for name in NAMES if name not in money}
    sums = {name: number * 10**6 for name, number in money.items()} | counts
    sums |= {"changed": 0, "refused": 0, "in 0": 0, "latency": requests * 500_000}
    return sums | {name.replace("_", " "): number for name, number in more.items()}


def world(users: Mapping[int, dict[str, int]], cluster: str | None = "user_id", days: int = 10) -> GateSums:
    return GateSums(users, cluster, ("best",), 0, days * 86_400_000_000, True)


def alike(number: int, **more: int) -> dict[int, dict[str, int]]:
    """Users of whom every second one is a little different."""
    return {
        place: user(100 + place % 2, 50 + 10 * (place % 2), in_0=place % 2, changed=4 + place % 3, **more)
        for place in range(number)
    }


def outcome(requirement: str, sums: GateSums, **more: Any) -> tuple[str, Json]:
    judged = judge(gate_with(requirement), sums, **more)
    assert judged["outcome"] == judged["requirements"][0]["outcome"]
    return judged["outcome"], judged["requirements"][0]


@pytest.mark.parametrize(
    ("requirement", "wanted"),
    [
        ("savings >= 20% at 95%", "pass"),
        ("savings >= 20%", "pass"),
        ("savings >= 45.27% at 95%", "not enough data"),  # the value is 45.2736...: so near that the interval straddles
        ("savings >= 60% at 95%", "fail"),
        ("savings > 60%", "fail"),
        ("savings >= $0.01 at 95%", "pass"),
        ("savings >= $0.05 at 95%", "fail"),
        ("cost <= $0.05 at 99%", "pass"),
        ("cost <= $0.001 at 99%", "fail"),
        ("share(best) <= 6% at 95%", "pass"),
        ("share(best) <= 5% at 95%", "not enough data"),
        ("share(best) < 5%", "fail"),
        ("share(best) <= 5%", "pass"),
        ("share(best) <= 3% at 95%", "fail"),
        ("share(best) >= 4% at 95%", "pass"),
        ("share(best) != 9% at 95%", "pass"),
        ("share(best) == 5%", "pass"),
        ("share(best) == 5% at 95%", "not enough data"),
        ("share(best) == 9% at 95%", "fail"),
        ("changed <= 60% at 95%", "pass"),
        ("changed <= 40% at 95%", "fail"),
        ("refused <= 5% at 95%", "pass"),
        ("latency <= 800ms at 95%", "pass"),
        ("latency <= 400ms", "fail"),
    ],
)
def test_outcomes(requirement: str, wanted: str) -> None:
    found, line = outcome(requirement, world(alike(300)))
    assert found == wanted, line
    assert line["text"] == requirement and line["detail"]
    if line["confidence_percent"]:
        assert Decimal(line["low"]) <= Decimal(line["value"]) <= Decimal(line["high"])
    else:
        assert line["low"] is line["high"] is None


def test_value_and_interval_at_a_glance() -> None:
    """Half of the users have one request of ten at `best`: 5 %, and the interval grows with the confidence."""
    lines = [outcome(f"share(best) <= 6% at {confidence}%", world(alike(300)))[1] for confidence in (80, 95, 99)]
    assert {line["value"] for line in lines} == {"5.00"}
    lengths = [Decimal(line["high"]) - Decimal(line["low"]) for line in lines]
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]
    assert Decimal("0.9") < lengths[1] < Decimal("1.4")  # 2 * 1.96 * 5 / root of 300 is 1.13


def test_how_many_users_would_settle_it() -> None:
    """Twice as near takes about four times as many, and their days."""
    near, nearer = (outcome(f"share(best) <= {bound}% at 95%", world(alike(300)))[1] for bound in ("5.4", "5.2"))
    assert near["outcome"] == nearer["outcome"] == "not enough data"
    assert 3.8 < nearer["needed"] / near["needed"] < 4.2 and near["needed"] > 300
    assert near["needed_days"] == -(-near["needed"] * 10 // 300)
    assert f"about {near['needed']:,} users in all ({near['needed'] - 300:,} more)" in near["detail"]
    assert f"{near['needed_days']} days at this trace's rate" in near["detail"] and "the value meets the bound" in near["detail"]


@pytest.mark.parametrize("requirement", ["savings >= 20% at 95%", "share(best) <= 30% at 95%", "changed <= 1% at 95%"])
def test_few_clusters_decide_nothing(requirement: str) -> None:
    found, line = outcome(requirement, world(alike(99)))
    assert found == "not enough data" and line["needed"] == 100
    assert "99 users are too few (under 100); about 100 users in all (1 more)" in line["detail"]


def test_one_heavy_cluster_decides_nothing() -> None:
    users = alike(300) | {999: user(10_000, 5_000)}
    found, line = outcome("savings >= 20% at 95%", world(users))
    assert found == "not enough data" and "one of the 301 users holds 25 % of the dollars" in line["detail"]
    assert line["needed"] > 301 and line["needed_days"] is None
    assert outcome("share(best) <= 30% at 95%", world(users))[0] == "pass"  # of the requests it holds no more than others
    heavy = alike(300) | {999: user(requests=900)}
    assert "of the requests" in outcome("share(best) <= 30% at 95%", world(heavy))[1]["detail"]


def test_dollars_of_a_longer_trace_are_others() -> None:
    """An interval of dollars that straddles the bound is not settled by more users."""
    found, line = outcome("savings >= $0.0137 at 95%", world(alike(300)))
    assert found == "not enough data" and line["needed"] is None and "more data will not help" in line["detail"]


@pytest.mark.parametrize(
    ("more", "requirement", "words"),
    [
        ({"old_of_all": 150 * 10**6}, "savings >= 20%", "of the baseline's dollars"),
        ({"old_of_all": 150 * 10**6}, "cost <= $9 at 95%", "of the baseline's dollars"),
        ({"money_known": 8}, "savings >= 20%", "the baseline's cost is known of 80.00 % of the requests"),
        ({"named": 8}, "changed <= 99%", "both models are known of 80.00 %"),
        ({"known": 8}, "refused <= 99% at 95%", "the decision is known of 80.00 %"),
        ({"of_0": 8}, "share(best) <= 99%", "the decision is known of 80.00 %"),
        ({"timed": 8}, "latency <= 9s", "latency is not identifiable"),
    ],
)
def test_too_little_of_the_trace_is_no_answer(more: dict[str, int], requirement: str, words: str) -> None:
    found, line = outcome(requirement, world(alike(300, **more)))
    assert found == "not enough data" and line["value"] is None and line["needed"] is None
    assert words in line["detail"] and "more of the same data will not help" in line["detail"]


def test_what_a_figure_leaves_out_is_told() -> None:
    assert (
        "the decision is known of 90.00 % of the requests" in outcome("share(best) <= 99%", world(alike(300, of_0=9)))[1]["detail"]
    )


@pytest.mark.parametrize(
    "requirement", ["savings >= 1%", "savings >= $1 at 95%", "cost <= $5", "changed <= 5% at 95%", "latency <= 1s"]
)
def test_an_empty_trace_passes_nothing(requirement: str) -> None:
    found, line = outcome(requirement, world({}))
    assert found == "not enough data" and line["detail"]


def test_without_clusters_there_is_no_interval() -> None:
    sums = world({0: user(requests=1_000)}, cluster=None)
    assert outcome("savings >= 20%", sums)[0] == "pass"
    found, line = outcome("savings >= 20% at 95%", sums)
    assert found == "not enough data" and "no interval" in line["detail"]


def test_a_saving_below_the_error_of_the_prices_is_none() -> None:
    sums = world(alike(300))
    saved = sums.total("saved")
    assert outcome("savings >= 20%", sums, price_error=1 - saved)[0] == "pass"
    found, line = outcome("savings >= 20%", sums, price_error=saved)
    assert found == "not enough data" and "not a saving" in line["detail"]


def test_a_free_baseline_can_be_left() -> None:
    """Nothing can be saved of nothing; what the policy costs is known all the same."""
    free = world({place: user(0, 40 + place % 2) for place in range(300)})
    assert outcome("savings >= 1%", free)[0] == "not enough data"
    assert outcome("cost <= $1 at 95%", free)[0] == "pass"
    assert outcome("cost <= $0.001", free)[0] == "fail"


def test_losses_have_an_interval() -> None:
    dearer = world({place: user(100, 200 + place % 2) for place in range(300)})
    found, line = outcome("savings >= $0.01 at 95%", dearer)
    assert found == "fail" and Decimal(line["high"]) < 0


def test_a_value_that_rounds_to_the_bound_shows_on_which_side_it_is() -> None:
    users = alike(300)
    users[0] = user(in_0=1, requests=10)
    found, line = outcome("share(best) <= 5.03%", world(users))
    assert found == "fail" and line["value"] == "5.033333"


# -- quality and latency from elsewhere ----------------------------------------------------------------------------

SCORES = Estimate(Decimal("91.5"), Decimal("90.2"), Decimal("92.8"), 95, 400, "outcomes table")


@pytest.mark.parametrize(
    ("requirement", "wanted"),
    [
        ("quality >= 90% at 95%", "pass"),
        ("quality >= 90% at 80%", "pass"),
        ("quality >= 90% at 99%", "not enough data"),
        ("quality >= 91% at 95%", "not enough data"),
        ("quality >= 93% at 95%", "fail"),
        ("quality >= 91%", "pass"),
        ("quality >= 92%", "fail"),
    ],
)
def test_quality_of_an_outcomes_table(requirement: str, wanted: str) -> None:
    found, line = outcome(requirement, world(alike(300)), estimates={"quality": SCORES})
    assert found == wanted and "outcomes table" in line["detail"]


def test_quality_is_not_identifiable_without() -> None:
    found, line = outcome("quality >= 1%", world(alike(300)))
    assert found == "not enough data" and line["value"] is None
    assert "quality is not identifiable from these traces" in line["detail"] and "--outcomes FILE" in line["detail"]


def test_estimates_come_from_the_panels_of_a_report() -> None:
    panel = {
        "policy": {"score": "0.915", "score_interval": ["0.902000", "0.928000"]}, "confidence_percent": 95, "clusters": 400, "cluster": "request",
        "requests": {"compared": 400, "compared_percent": "80.00"},
    }  # fmt: skip
    found = of_outcomes(panel)["quality"]
    assert (found.value, found.low, found.high, found.clusters) == (SCORES.value, SCORES.low, SCORES.high, 400)
    assert "400 requests (80.00 %)" in found.source
    assert of_outcomes({"policy": None}) == of_propensities({"estimates": None}, "user_id") == {}
    line = {"value": "0.50", "interval": ["-0.10", "1.10"]}
    log = {"outcome": "thumbs_up", "estimates": {"dr": line}, "used_rows": 900, "confidence_percent": 95, "clusters": 200}
    share = of_propensities(log, "user_id")["quality"]
    assert [share.value, share.low, share.high] == [Decimal(50), Decimal(0), Decimal(100)]
    slow = {"dr": {"value": "812.5", "interval": ["700", "900"]}}
    assert of_propensities(log | {"outcome": "latency_ms", "estimates": slow}, "user_id")["latency"].value == Decimal("812.5")
    assert of_propensities(log | {"estimates": slow}, "user_id") == {}
    judged = outcome(
        "latency <= 950ms at 95%",
        world({}),
        estimates=of_propensities(log | {"outcome": "latency_ms", "estimates": slow}, "user_id"),
    )
    assert judged[0] == "pass" and "doubly robust" in judged[1]["detail"]


# -- gates and exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirements", "wanted", "code"),
    [
        (("savings >= 20%", "share(best) <= 6%"), "pass", 0),
        (("savings >= 20%", "quality >= 1%"), "not enough data", 3),
        (("savings >= 90%", "quality >= 1%"), "fail", 1),
        ((), "not enough data", 3),
    ],
)
def test_the_worst_requirement_decides(requirements: tuple[str, ...], wanted: str, code: int) -> None:
    judged = judge(gate_with(*requirements), world(alike(300)))
    assert judged["outcome"] == wanted and exit_code([judged]) == code
    assert json.loads(json.dumps(judged)) == judged


def test_a_failed_gate_goes_before_an_undecided_one() -> None:
    judged = [judge(gate_with(each), world(alike(300))) for each in ("quality >= 1%", "savings >= 90%", "savings >= 20%")]
    assert exit_code(judged) == 1 and exit_code(judged[::2]) == 3 and exit_code(judged[2:]) == exit_code([]) == 0


def test_what_the_terminal_shows() -> None:
    judged = [judge(gate_with("savings >= 20% at 95%", "share(best) <= 4%", "quality >= 1%"), world(alike(300)))]
    console = Console(file=io.StringIO(), width=100, color_system=None)
    render(judged, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for words in ("Gate release", "fail", "✓ savings >= 20% at 95%", "✗ share(best) <= 4%: 5.00 %", "? quality >= 1%: unknown"):
        assert words in printed
    assert [row[3].split(":")[0] for row in rows(judged)] == ["pass", "fail", "not enough data"]
    assert measured(judged[0]["requirements"][0]).startswith("45.27 % (")
    assert rows([judge(gate_with(), world({}))]) == [("release", "the gate requires nothing", "", "not enough data")]


# -- intervals of rare cases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cases", "low", "high"),
    [(0, "0", "3.6889"), (1, "0.0253", "5.5716"), (2, "0.2422", "7.2247"), (10, "4.7954", "18.3904")],
)  # Garwood's 95 % limits of a Poisson count, as tables print them
def test_few_cases_leave_much_open(cases: int, low: str, high: str) -> None:
    found = drawn_share({place: (int(place < cases), 1) for place in range(1_000)}, 9_500)
    assert found is not None
    assert found.low * 1_000 <= Decimal(low) + Decimal("0.0001") and found.high * 1_000 >= Decimal(high) - Decimal("0.0001")
    if cases < 2:
        assert abs(found.high * 1_000 - Decimal(high)) < Decimal("0.0001")


def test_all_or_nothing_is_mirrored() -> None:
    nothing, everything = (drawn_share({place: (each, 1) for place in range(500)}, 9_500) for each in (0, 1))
    assert nothing is not None and everything is not None
    assert nothing.low == 0 and everything.high == 1 and abs(1 - everything.low - nothing.high) < Decimal("1e-12")


def test_nothing_seen_needs_enough_users() -> None:
    """With no refusal among 300 users, up to 3.69 of them might have had one: 1.23 %."""
    assert outcome("refused <= 2% at 95%", world(alike(300)))[0] == "pass"
    found, line = outcome("refused <= 0.1% at 95%", world(alike(300)))
    assert found == "not enough data" and (line["value"], line["high"]) == ("0.00", "1.23")
    assert 3_680 < line["needed"] < 3_700


def test_many_cases_have_the_interval_of_the_statistics() -> None:
    """But for what log odds add, which is next to nothing."""
    pairs = {place: (place % 2, 2) for place in range(400)}
    share, plain = drawn_share(pairs, 9_500), drawn(pairs, 9_500)
    assert share is not None and plain is not None and share.low <= plain.low and share.high >= plain.high
    assert (share.high - share.low) / (plain.high - plain.low) < Decimal("1.02")


def test_cases_of_one_user_are_no_more_than_one() -> None:
    """A hundred cases of one user leave as much open as one case of one user does."""
    once, often = (drawn_share({place: (each * (place == 0), 100) for place in range(1_000)}, 9_500) for each in (1, 100))
    assert once is not None and often is not None and abs(often.high / once.high - 100) < Decimal("0.001")


# -- over a whole replay -------------------------------------------------------------------------------------------


def calls(users: int) -> list[Json]:
    """Two calls of each user: one is short in three of four users; every tenth user sends one that is too long."""
    made = []
    for number in range(users):
        for again in (0, 1):
            tokens = 6_000 if again and number % 10 == 0 else 50 if (number + again) % 4 else 500
            made.append({
                "ts": f"2026-05-{1 + number % 20:02d}T10:00:0{again}Z", "user_id": f"u{number}", "provider": "openai",
                "model": "mini-1" if number % 5 == 0 else "big-1", "input_tokens": tokens, "output_tokens": 10,
                "latency_ms": 100 + number % 7,
            })  # fmt: skip
    return made


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[Json], str], Path]:
    def write(made: list[Json], name: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(each) + "\n" for each in made), "utf-8")
        return path

    return write


def summed(policy: Policy, paths: list[Path], **options: Any) -> GateSums:
    gate = policy.gates[0]
    told = Options(baseline=gate_baseline(gate, policy), **options)
    with prepared([policy], paths, catalog(), told, silent) as ready:
        return gate_bags(ready.connection, ready.views[0], ready.pairs(), gate)


WANTED = ("savings >= 20% at 95%", "changed <= 90%", "refused <= 6%", "share(cheap) >= 1%", "share(big) <= 99%", "share(long) <= 99%", "share(tiny) <= 99%", "latency <= 1s")  # fmt: skip


def test_sums_are_those_of_the_decisions(write: Callable[[list[Json], str], Path], tmp_path: Path) -> None:
    """Each figure, recomputed from the rows that `--output` writes."""
    policy, path, output = policy_with(*WANTED), write(calls(300), "t.jsonl"), tmp_path / "decisions.parquet"
    sums = summed(policy, [path])
    simulate(policy, [path], catalog(), Options(output=output))
    query = f"""SELECT count(*), count_if(class IN ('exact', 'fallback')), count_if(changed AND class <> 'refused'), count_if(class = 'refused'),
        count_if(tier = 'cheap' AND new_model IS NOT NULL), count_if(answered_by = 'big'), count_if(rule = 'long'), count_if(input_tokens < 60),
        sum(old_cost_usd) FILTER (WHERE class = 'exact'), sum(new_cost_usd) FILTER (WHERE class = 'exact'), sum(old_cost_usd) FROM '{output}'"""
    with duckdb.connect() as connection:
        ((rows_, priced, changed, refused, cheap, big, long, tiny, old, new, everything),) = connection.sql(query).fetchall()
    assert (rows_, priced, refused) == (600, 570, 30)
    counts = [sums.total(name) for name in ("rows", "compared", "changed", "refused", "in 0", "in 1", "in 2", "in 3")]
    assert counts == [rows_, priced, changed, refused, cheap, big, long, tiny]
    assert [sums.total(name) for name in ("old", "new", "old of all")] == [int(each * 10**12) for each in (old, new, everything)]
    assert sums.shares == ("cheap", "big", "long", "tiny") and len(sums.bags) > 290 and sums.seconds == 19 * 86_400 + 1


def test_a_split_of_the_trace_changes_nothing(write: Callable[[list[Json], str], Path]) -> None:
    made = calls(120)
    whole = write(made, "whole.jsonl")
    parts = [write(made[::2], "a.jsonl"), write(made[1::2], "b.jsonl")]
    policy = policy_with(*WANTED)
    assert summed(policy, [whole]) == summed(policy, parts) == summed(policy, [write(made[::-1], "r.jsonl")], threads=1)


def test_a_gate_from_file_to_exit_code(write: Callable[[list[Json], str], Path]) -> None:
    policy = policy_with("savings >= 20% at 95%", "refused <= 1% at 95%", "share(cheap) >= 60% at 95%", "changed <= 70%")
    judged = judge(policy.gates[0], summed(policy, [write(calls(300), "t.jsonl")]))
    assert [line["outcome"] for line in judged["requirements"]] == ["not enough data", "fail", "pass", "pass"]
    assert "of the baseline's dollars" in judged["requirements"][0]["detail"]  # most of the money is in what is refused
    assert judged["requirements"][1]["value"] == "5.00" and exit_code([judged]) == 1


def test_unknown_signals_leave_a_gate_undecided(write: Callable[[list[Json], str], Path]) -> None:
    """A fifth of the calls doesn't tell its tokens: nothing that depends on them is claimed."""
    made = [each | {"input_tokens": None} if number % 5 == 0 else each for number, each in enumerate(calls(300))]
    policy = policy_with("share(best) <= 99%", "refused <= 99%", "changed <= 99%", "savings >= 1%")
    judged = judge(policy.gates[0], summed(policy, [write(made, "t.jsonl")]))
    assert {line["outcome"] for line in judged["requirements"]} == {"not enough data"}


def test_latency_only_where_the_model_stays(write: Callable[[list[Json], str], Path]) -> None:
    made = [each | {"model": "mini-1"} for each in calls(200) if each["input_tokens"] == 50]
    path = write(made, "t.jsonl")
    stays = policy_with("latency <= 104ms at 95%")
    assert judge(stays.gates[0], summed(stays, [path]))["requirements"][0]["outcome"] == "pass"
    moves = policy_with("latency <= 104ms at 95%", rules=MODELS + "otherwise { then best }")
    (line,) = judge(moves.gates[0], summed(moves, [path]))["requirements"]
    assert line["outcome"] == "not enough data" and line["value"] is None and "not identifiable" in line["detail"]
