"""Tuning: constraints, the search, the answers that it can give, and what `--write` does to a file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from policyroute.cli import cli
from policyroute.language import Policy, load
from policyroute.language.formatter import format_source
from policyroute.language.source import Source
from policyroute.render.tuning import tuning as render
from policyroute.replay.options import Options, SimulationError
from policyroute.replay.tuning.candidates import tuned
from policyroute.replay.tuning.constraints import Constraint, Figure, default_figure, parse_constraint
from policyroute.replay.tuning.holdout import parse_holdout
from policyroute.replay.tuning.report import tuning, values_of
from policyroute.replay.tuning.totals import Totals
from policyroute.replay.tuning.tune import Tuned, Tuning, front, tune
from tests.simulate_support import ROOT, Json, catalog, policy_from, policy_of

HELD = Options(prompt_cache="held", failures=False)
QUARTER = parse_holdout("25%")

ONE = """
tunable short : int 0..1k = 100
model mini   { id "gpt-4o-mini" }
model strong { id "gpt-4o" }
tier cheap   = mini
tier premium = strong
order cheap < premium
rule quick { when last_tokens < short then cheap }
otherwise  { then premium }
"""
THREE = """
tunable a : int 0..900 = 300
tunable b : int 0..900 = 300
tunable c : int 0..900 = 300
model mini   { id "gpt-4o-mini" }
model haiku  { id "claude-haiku-4-5" }
model strong { id "gpt-4o" }
rule one   { when turns == 1 and last_tokens < a then mini }
rule two   { when turns == 2 and last_tokens < b then mini }
rule three { when turns == 3 and last_tokens > c then haiku }
otherwise  { then strong }
"""


def rows_of(count: int, model: str = "gpt-4o", users: int = 150, **fixed: Any) -> list[dict[str, Any]]:
    """Requests over ten days, made by a seeded generator; `fixed` columns replace drawn ones."""
    draw = random.Random(11)
    return [
        {
            "ts": datetime(2026, 9, 1) + timedelta(minutes=number), "request_id": f"r{number}", "user_id": f"user {draw.randrange(users)}", "model": model,
            "input_tokens": draw.randrange(300, 3_000), "output_tokens": draw.randrange(50, 400), "last_tokens": draw.randrange(1, 700), "turns": draw.randrange(1, 4),
        } | fixed
        for number in range(count)
    ]  # fmt: skip


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tune") / "trace.parquet", rows_of(1_200))


def asked(*constraints: str, policy: Policy, grid: int = 6) -> Tuning:
    return Tuning(tuple(parse_constraint(text, policy) for text in constraints), grid, QUARTER)


def found(policy: Policy, path: Path, *constraints: str, grid: int = 6, **options: Any) -> tuple[Tuned, Json]:
    """A tuning and its report."""
    settings: dict[str, Any] = {"prompt_cache": "held", "failures": False, **options}
    made = tune(policy, [path], catalog(), Options(**settings), asked(*constraints, policy=policy, grid=grid))
    return made, tuning(made)


# -- constraints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("share(premium)<=15%", Constraint(Figure("share", "premium"), "<=", Decimal(15))),
        (" share( mini ) < 0.5 ", Constraint(Figure("share", "mini"), "<", Decimal("0.5"))),
        ("share(quick)>=10%", Constraint(Figure("share", "quick", less=False), ">=", Decimal(10))),
        ("changed<=40%", Constraint(Figure("changed"), "<=", Decimal(40))),
        ("quality > 80%", Constraint(Figure("quality", less=False), ">", Decimal(80))),
    ],
)
def test_constraints(text: str, wanted: Constraint) -> None:
    assert parse_constraint(text, policy_from(ONE)) == wanted


@pytest.mark.parametrize(
    ("text", "message", "help_"),
    [
        ("share(premum)<=15%", "no tier, model or rule is named `premum`", "did you mean `premium`?"),
        ("chnged<=15%", "there is no `chnged` to constrain", "did you mean `changed`?"),
        ("share<=15%", "`share` needs the name of a tier, model or rule", "share(premium)"),
        ("changed(premium)<=15%", "`changed` takes no name", "share(premium)"),
        ("changed", "`changed` is no constraint", "share(premium)"),
        ("changed==15%", "is no constraint", "share(premium)"),
        ("changed<=101%", "above 100 %", "share(premium)"),
    ],
)
def test_what_is_no_constraint(text: str, message: str, help_: str) -> None:
    with pytest.raises(SimulationError) as raised:
        parse_constraint(text, policy_from(ONE))
    assert message in raised.value.message and help_ in raised.value.help


@pytest.mark.parametrize(
    ("text", "pair", "short_by"),
    [
        ("changed<=40%", (2, 5), Fraction(0)), ("changed<40%", (2, 5), Fraction(1, 10**9)), ("changed<=40%", (3, 5), Fraction(1, 5)),
        ("quality>=80%", (4, 5), Fraction(0)), ("quality>=80%", (3, 5), Fraction(1, 5)), ("quality>=80%", (0, 0), Fraction(1)),
        ("changed<=33.333333%", (1, 3), Fraction(1, 3) - Fraction("0.33333333")),
    ],
)  # fmt: skip
def test_bounds_are_exact(text: str, pair: tuple[int, int], short_by: Fraction) -> None:
    assert parse_constraint(text, policy_from(ONE)).short_by(pair) == short_by


def test_the_figure_of_a_front() -> None:
    """The highest tier's share where there is one that rules use, else what changes."""
    totals = Totals(rows=10, unknown=2, moved=3, compared=4, tiers={"premium": 2}, models={"strong": 5})
    assert default_figure(policy_from(ONE)) == Figure("share", "premium")
    assert default_figure(policy_from(THREE)) == Figure("changed")
    assert Figure("share", "premium").of(totals) == (2, 8) and Figure("share", "strong").of(totals) == (5, 8)
    assert Figure("share", "nothing").of(totals) == (0, 8) and Figure("changed").of(totals) == (3, 4)
    assert Figure("users").of(totals, (1, 7)) == (1, 7)


# -- answers -------------------------------------------------------------------------------------------------------


def test_change(trace: Path) -> None:
    """A threshold that saves more: chosen before the hold-out, confirmed there, with an interval above 0."""
    made, result = found(policy_from(ONE), trace)
    assert result["answer"]["word"] == "change"
    assert result["answer"]["values"] == {"short": 1 + max(row["last_tokens"] for row in rows_of(1_200)[:900])}
    low, _ = result["difference"]["interval"]["saving_usd"]
    assert Decimal(low) > 0 and Decimal(result["difference"]["saving_usd"]) > 0
    assert made.present.point == (100,) and result["holdout"]["rows"] == 300
    assert "no constraint was given" in " ".join(result["cautions"])


def test_an_end_is_said(trace: Path) -> None:
    """The value is above all that was seen, which both the answer and a note say; so is the end of a range."""
    _, result = found(policy_from(ONE), trace)
    assert (
        result["tunables"][0]["at_end"] == "above all that was seen"
        and "`short` is above all that was seen" in result["answer"]["sentence"]
    )
    narrow = policy_from(ONE.replace("0..1k", "0..200"))
    _, result = found(narrow, trace)
    assert result["answer"]["values"] == {"short": 200} and "high end of its range" in result["answer"]["sentence"]
    assert any("high end of its range" in line for line in result["cautions"])


def test_a_constraint_is_kept(trace: Path) -> None:
    """The best candidate that keeps the bound; it is kept in the hold-out, too."""
    made, result = found(policy_from(ONE), trace, "share(cheap)<=60%", grid=20)
    assert made.chosen is not None and result["answer"]["word"] == "change"
    (line,) = result["constraints"]
    assert line["chosen_earlier"]["met"] and line["chosen_holdout"]["met"] and Decimal(line["chosen_earlier"]["percent"]) <= 60
    better = [each for each in made.candidates if each.periods.early.saving > made.chosen.periods.early.saving]
    assert better and all(each.short_by(made.asked.constraints) > 0 for each in better)


def test_leave_it_where_nothing_keeps_the_constraint(trace: Path) -> None:
    _, result = found(policy_from(ONE), trace, "share(premium)>=10%", "share(cheap)>=95%")
    assert result["answer"]["word"] == "leave it" and result["chosen"] is None and result["answer"]["values"] == {}
    assert "no candidate meets the constraint" in result["answer"]["sentence"]


def test_leave_it_where_the_holdout_breaks_the_constraint(tmp_path: Path) -> None:
    """Short questions become common in the last quarter: the bound that held before is broken."""
    rows = rows_of(800)
    rows[600:] = [{**row, "last_tokens": 1} for row in rows[600:]]
    _, result = found(policy_from(ONE), written(tmp_path / "shift.parquet", rows), "share(cheap)<=50%", grid=20)
    assert (
        result["answer"]["word"] == "leave it"
        and "doesn't keep share(cheap) <= 50% in the hold-out" in result["answer"]["sentence"]
    )


def test_leave_it_where_the_difference_may_be_none(tmp_path: Path) -> None:
    """In the hold-out no request lies between the present and the chosen value."""
    rows = rows_of(800)
    rows[600:] = [{**row, "last_tokens": 1} for row in rows[600:]]
    _, result = found(policy_from(ONE), written(tmp_path / "none.parquet", rows))
    assert result["answer"]["word"] == "leave it" and "includes 0" in result["answer"]["sentence"]
    assert result["difference"]["interval"]["saving_usd"] == ["0.0000", "0.0000"]


def test_leave_it_where_the_present_values_are_best(trace: Path) -> None:
    policy = policy_from(ONE.replace("= 100", "= 900"))
    _, result = found(policy, trace)
    assert result["answer"] == {"word": "leave it", "sentence": "the present values are the best of those tried", "values": {}}


def test_leave_it_where_there_is_nobody_to_draw(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("model", "input_tokens", "output_tokens", "last_tokens", "turns")} for row in rows_of(400)]
    _, result = found(policy_from(ONE), written(tmp_path / "bare.parquet", rows))
    assert result["answer"]["word"] == "leave it" and result["difference"]["interval"] is None
    assert result["holdout"]["by"] == "cluster" and result["holdout"]["sentence"].startswith("25 % of the requests by a hash")


def test_change_where_the_present_values_break_the_constraint(trace: Path) -> None:
    """To keep a bound may cost something."""
    policy = policy_from(ONE.replace("= 100", "= 600"))
    _, result = found(policy, trace, "share(cheap)<=50%", grid=20)
    assert result["answer"]["word"] == "change" and "don't keep the constraint" in result["answer"]["sentence"]
    assert Decimal(result["difference"]["saving_usd"]) < 0


def test_do_not_route_where_nothing_saves(tmp_path: Path) -> None:
    """All requests went to the cheapest model already."""
    path = written(tmp_path / "mini.parquet", rows_of(400, model="gpt-4o-mini"))
    policy = policy_from(ONE.replace("0..1k = 100", "0..500 = 100"))
    _, result = found(policy, path)
    assert result["answer"]["word"] == "do not route" and "no candidate saves anything" in result["answer"]["sentence"]


def test_leave_it_where_nothing_can_be_told(tmp_path: Path) -> None:
    """Without a priced request there is no saving, which is not the same as none."""
    path = written(tmp_path / "unknown.parquet", rows_of(60, model="a-model-without-price"))
    _, result = found(policy_from(ONE), path)
    assert result["answer"]["word"] == "leave it" and "nothing can be told" in result["answer"]["sentence"]


def test_refusing_is_no_saving(tmp_path: Path) -> None:
    """Requests that would get dearer can't be refused away: no more than now may stay without an answer."""
    text = """
    tunable most : int 100..5k = 5k
    model mini   { id "gpt-4o-mini" }
    model strong { id "gpt-4o" }
    rule pasted { when tokens > most then refuse "too long" }
    rule quick  { when last_tokens < 100 then mini }
    otherwise   { then strong }
    """
    path = written(tmp_path / "mini.parquet", rows_of(400, model="gpt-4o-mini"))
    made, result = found(policy_from(text), path)
    assert any(each.periods.early.saving > made.present.periods.early.saving for each in made.candidates)
    assert made.chosen is None or made.chosen.periods.early.refused == 0
    assert result["answer"]["word"] == "do not route"
    assert all(line["refused"] == 0 for line in result["front"])


@pytest.mark.parametrize(
    ("better", "word"),
    [("strong", "change"), ("mini", "do not route")],
    ids=["the dear model scores better", "it scores no better"],
)
def test_quality_from_outcomes(trace: Path, tmp_path: Path, better: str, word: str) -> None:
    """Scores of both models on all requests: a bound of quality, and a single model that makes routing pointless."""
    lines = [
        {"request_id": row["request_id"], "model": model, "input_tokens": row["input_tokens"], "output_tokens": row["output_tokens"],
         "score": 1 if row["last_tokens"] < 350 or model == better or better == "mini" else 0}
        for row in rows_of(1_200)
        for model in ("mini", "strong")
    ]  # fmt: skip
    outcomes = tmp_path / "outcomes.jsonl"
    outcomes.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    made, result = found(policy_from(ONE), trace, "quality>=95%", grid=20, outcomes=outcomes)
    assert result["answer"]["word"] == word
    assert made.chosen is not None and made.chosen.periods.early.scored == 900
    scores = {line["model"]: Decimal(line["score_percent"]) for line in result["models_alone"]}
    assert scores["strong"] == 100 and (scores["mini"] == 100) == (better == "mini")
    if word == "change":
        assert 350 <= made.chosen.point[0] < 400 and Decimal(result["chosen"]["earlier"]["score"]) >= 95


@pytest.mark.parametrize(
    ("constraint", "columns", "message"),
    [("quality>=80%", (), "quality is not identifiable"), ("users<=30%", ("user_id",), "the trace has no users to count")],
)
def test_what_a_trace_cant_tell(tmp_path: Path, constraint: str, columns: tuple[str, ...], message: str) -> None:
    rows = [{key: value for key, value in row.items() if key not in columns} for row in rows_of(50)]
    policy = policy_from(ONE)
    with pytest.raises(SimulationError, match=message):
        found(policy, written(tmp_path / "trace.parquet", rows), constraint)


def test_users_can_be_bounded(trace: Path) -> None:
    """The share of users of whom any request moves, counted exactly."""
    policy = policy_from(ONE)
    made, _ = found(policy, trace, "users<=90%")
    early = rows_of(1_200)[:900]
    for each in made.candidates:
        moved = {row["user_id"] for row in early if row["last_tokens"] < each.point[0]}
        assert each.users[0] == (len(moved), len({row["user_id"] for row in early}))


# -- the search ----------------------------------------------------------------------------------------------------


def test_three_tunables_climb_to_what_a_grid_finds(trace: Path) -> None:
    """Three independent thresholds: coordinate search from several starts reaches the best of all combinations."""
    policy = policy_from(THREE)
    made, result = found(policy, trace, grid=4)
    assert result["search"]["kind"] == "coordinate search" and len(result["search"]["starts"]) == 4
    assert made.chosen is not None
    separate = [max(_alone(policy, trace, name)) for name in "abc"]
    base = made.present.periods.early.saving
    assert made.chosen.periods.early.saving - base == sum(best - base for best in separate)
    assert len(made.candidates) < 8**3


def _alone(policy: Policy, trace: Path, name: str) -> Iterator[int]:
    """Savings of the candidates that move one tunable alone."""
    text = THREE
    for other in "abc":
        if other != name:
            text = (
                text.replace(f"tunable {other} : int 0..900 = 300\n", "")
                .replace(f"< {other} ", "< 300 ")
                .replace(f"> {other} ", "> 300 ")
            )
    made = tune(policy_from(text), [trace], catalog(), HELD, Tuning((), 4, QUARTER))
    yield from (each.periods.early.saving for each in made.candidates)


def test_the_front_is_what_nothing_beats(trace: Path) -> None:
    """By brute force over all candidates; every candidate is on it or beaten by one that is."""
    made, _ = found(policy_from(ONE), trace, "share(cheap)<=60%", grid=20)
    points = {each.point: (each.periods.early.saving, each.figure(made.figure)[0]) for each in made.candidates}
    best = {
        point
        for point, (saving, share) in points.items()
        if not any((other[0] >= saving and other[1] <= share and other != (saving, share)) for other in points.values())
    }
    assert {points[each.point] for each in front(made)} == {points[point] for point in best}
    assert [each.periods.early.saving for each in front(made)] == sorted(points[each.point][0] for each in front(made))


def test_the_choice_never_looks_at_the_holdout(trace: Path, tmp_path: Path) -> None:
    """With other requests in the hold-out the same values are tried and chosen."""
    rows = rows_of(1_200)
    rows[900:] = [{**row, "last_tokens": 699 - row["last_tokens"], "model": "gpt-4o-mini"} for row in rows[900:]]
    one, _ = found(policy_from(ONE), trace)
    other, _ = found(policy_from(ONE), written(tmp_path / "other.parquet", rows))
    assert one.values == other.values and one.chosen is not None and other.chosen is not None
    assert one.chosen.point == other.chosen.point and one.chosen.periods.early == other.chosen.periods.early


def test_the_same_bytes_each_time(trace: Path) -> None:
    policy = policy_of("policies/support.route")
    path = ROOT / "traces" / "support.parquet"
    first, again = (tuning(tune(policy, [path], catalog(), Options(threads=threads), Tuning())) for threads in (None, 1))
    assert json.dumps(first) == json.dumps(again)


@pytest.mark.parametrize(("name", "still", "moved"), [("support", "short", "long"), ("coding", "small", "large")])
def test_figures_of_examples(name: str, still: str, moved: str) -> None:
    """Candidates are compared with usage held; what the hold-out shows is reckoned with the prompt cache, as `simulate` does."""
    policy, path = policy_of(f"policies/{name}.route"), ROOT / "traces" / f"{name}.parquet"
    made = tune(policy, [path], catalog(), Options(), Tuning())
    result = tuning(made)
    assert made.chosen is not None and values_of(made, made.chosen)[moved] > policy.tunables[moved].value
    assert values_of(made, made.chosen)[still] == policy.tunables[still].value
    assert result["answer"]["word"] == "change" and not made.effects.plain
    assert any("prompt cache" in line for line in result["assumptions"])
    held = tuning(tune(policy, [path], catalog(), HELD, Tuning()))
    assert held["front"] == result["front"] and held["saving"]["after_usd"] < result["saving"]["after_usd"]
    line = held["chosen"]["holdout"]
    assert held["saving"]["after_usd"] == line["routed_usd"] and held["saving"]["before_usd"] == line["baseline_usd"]


# -- the command ---------------------------------------------------------------------------------------------------


@cache
def _support() -> str:
    return (ROOT / "policies" / "support.route").read_text("utf-8")


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the support policy and what it uses."""
    monkeypatch.setenv("POLICYROUTE_CACHE", str(tmp_path_factory.getbasetemp() / "tune-cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").mkdir()
    for name in ("faq.txt", "urgent.txt"):
        (tmp_path / "words" / name).write_bytes((ROOT / "policies" / "words" / name).read_bytes())
    (tmp_path / "support.route").write_text(_support(), "utf-8")
    return tmp_path


def run(*arguments: str) -> Result:
    trace = str(ROOT / "traces" / "support.parquet")
    return CliRunner().invoke(cli, ["tune", trace, "--policy", "support.route", *arguments])


def test_the_story_fits_a_screen(place: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) <= 45
    for part in (
        "change",
        "Tunable",
        "Cost against share(premium)",
        "Hold-out",
        "best found",
        "quality is not identifiable",
        "+tunable long",
    ):
        assert part in done.stdout
    assert (place / "support.route").read_text("utf-8") == _support()
    assert done.stderr == ""


def test_state_is_left_out_by_name_or_not_at_all(place: Path) -> None:
    text = (place / "support.route").read_text("utf-8")
    (place / "support.route").write_text(text + "\nquota few { 5 per day by user of premium then cheap }\n", "utf-8")
    refused = run()
    assert refused.exit_code == 2
    assert "candidates are compared without state, and `support` has `quota few`" in refused.stderr
    assert "the policy is replayed without quota few" in run("--without", "quota", "--json").stdout


def test_write_changes_numbers_and_nothing_else(place: Path) -> None:
    """The file becomes the policy that was judged; permissions, words, comments and layout stay."""
    path = place / "support.route"
    path.chmod(0o640)
    found_ = json.loads(run("--write", "--json").stdout)
    text, values = path.read_text("utf-8"), found_["answer"]["values"]
    assert values and found_["written"] and path.stat().st_mode & 0o777 == 0o640
    assert load(path).digest == load(ROOT / "policies" / "support.route", tunables=values).digest
    changed = [(old, new) for old, new in zip(_support().splitlines(), text.splitlines(), strict=True) if old != new]
    assert {old.split()[0] for old, _ in changed} == {"tunable"}
    assert format_source(Source("x", text)) == text
    assert sorted(each.name for each in place.iterdir()) == ["support.route", "words"]
    assert {f"-{old}" for old, _ in changed} <= set(found_["diff"].splitlines())


def test_write_reaches_a_used_file(place: Path) -> None:
    """A tunable of a used file is changed there."""
    lines = _support().splitlines(keepends=True)
    kept = [line for line in lines if line.startswith("tunable")]
    (place / "thresholds.route").write_text("edition 1\n\n" + "".join(kept), "utf-8")
    main = "".join(line for line in lines if not line.startswith("tunable")).replace("\n\n", '\n\nuse "thresholds.route"\n\n', 1)
    (place / "support.route").write_text(main, "utf-8")
    done = run("--write")
    assert done.exit_code == 0, done.output
    assert "+++ b/thresholds.route" in done.stdout and "b/support.route" not in done.stdout
    assert (place / "support.route").read_text("utf-8") == main
    assert load(place / "support.route").tunables["long"].value > 1_000


def test_nothing_is_written_where_the_answer_is_to_leave_it(place: Path) -> None:
    done = run("--write", "--constraint", "share(premium)>=99%")
    assert done.exit_code == 0 and "leave it" in done.stdout and "nothing to write" in done.stdout
    assert (place / "support.route").read_text("utf-8") == _support()


@pytest.mark.parametrize(
    ("arguments", "message", "help_"),
    [
        (("--constraint", "share(premum)<=15%"), "no tier, model or rule is named `premum`", "did you mean `premium`?"),
        (("--holdout", "soon"), "`soon` is no hold-out", "--holdout 7d"),
        (("--baseline", "nobody"), "there is no baseline `nobody`", "recorded, requested"),
        (("--constraint", "quality>=80%"), "quality is not identifiable", "--outcomes FILE"),
        (("--policy", str(ROOT / "policies" / "hello.route")), "`hello` has no tunable", "tunable short : int 50..2k = 500"),
    ],
)
def test_what_cant_be_done_is_said(place: Path, arguments: tuple[str, ...], message: str, help_: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and message in done.stderr and help_ in done.stderr
    assert (place / "support.route").read_text("utf-8") == _support()


def test_a_tunable_that_no_rule_reads(trace: Path) -> None:
    text = ONE.replace("last_tokens < short", "last_tokens < 100")
    with pytest.raises(SimulationError) as raised:
        found(policy_from(text), trace)
    assert raised.value.message == "no rule of `example` reads `short`" and "last" not in raised.value.help
    _, result = found(policy_from("tunable idle : int 0..9 = 1\n" + ONE), trace)
    assert result["unread_tunables"] == ["idle"] and "no rule reads `idle`" in result["cautions"]


def test_names_are_not_markup(trace: Path) -> None:
    """What rich takes for markup is printed as it is."""
    _, result = found(policy_from(ONE), trace)
    result["trace"]["files"] = ["[red]a[/red].parquet"]
    console = Console(width=140)
    with console.capture() as shown:
        render(result, console)
    assert "[red]a[/red].parquet" in shown.get()


def test_tuned_by_hand(trace: Path) -> None:
    """What the report says of the chosen values is what a policy with these values does."""
    made, result = found(policy_from(ONE), trace)
    assert made.chosen is not None
    chosen = tuned(policy_from(ONE), values_of(made, made.chosen))
    again, _ = found(chosen, trace)
    assert again.present.periods == made.chosen.periods
    assert result["chosen"]["holdout"]["routed_usd"] == result["difference"]["after_usd"]
