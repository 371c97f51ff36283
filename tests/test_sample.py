"""`policyroute sample` and the scores that come back: the draw, the sheet as a spreadsheet has it, intervals, the 95 % alarm."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from policyroute.cli import cli
from policyroute.render.audit import audit as render
from policyroute.replay.audit.draw import AuditError, uncell
from policyroute.replay.audit.scores import beta_share, clopper_pearson, enough_when_all_right, judged, read_scores, wilson
from policyroute.replay.options import Options
from policyroute.replay.simulate import simulate
from tests.simulate_support import ROOT, catalog, policy_of

TRACE = ROOT / "traces" / "support.parquet"
Row = dict[str, str]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYROUTE_CACHE", str(tmp_path_factory.getbasetemp() / "sample-cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("decisions") / "decisions.parquet"
    simulate(policy_of("policies/support.route"), [TRACE], catalog(), Options(output=target))
    return target


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["sample", *map(str, arguments)])


def read(path: Path, delimiter: str = ",") -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def write(path: Path, rows: list[Row], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def sheet(decisions: Path, tmp_path: Path) -> Path:
    """A drawn sheet by rule, ten of each."""
    path = tmp_path / "drawn.csv"
    assert run(decisions, "--per", "rule", 10, "--output", path).exit_code == 0
    return path


Score = Callable[[Row, int], str]


def scored(sheet: Path, score: Score, **written: Any) -> Path:
    """The sheet with `score` of each line and its place in its stratum."""
    rows, places = read(sheet), Counter[str]()
    for row in rows:
        row["score"] = score(row, places[row["stratum"]])
        places[row["stratum"]] += 1
    return write(sheet.with_name("scored.csv"), rows, **written)


# -- drawing -------------------------------------------------------------------------------------------------------


def test_strata_are_drawn_by_hash(decisions: Path, sheet: Path) -> None:
    """Ten of each rule that sends requests to a model, the first by MD5; sizes are those of the decisions."""
    rows = read(sheet)
    sizes = dict(duckdb.sql(f"SELECT rule, count(*) FROM '{decisions}' WHERE new_model IS NOT NULL GROUP BY rule").fetchall())
    assert Counter(row["stratum"] for row in rows) == {rule: min(10, size) for rule, size in sizes.items()}
    assert "pasted_log" not in sizes  # it refuses: there is no answer to score
    assert all(int(row["stratum_rows"]) == sizes[row["stratum"]] and int(row["population"]) == sum(sizes.values()) for row in rows)
    for rule in sizes:
        wanted = duckdb.sql(
            f"SELECT row FROM '{decisions}' WHERE rule = '{rule}' AND new_model IS NOT NULL ORDER BY md5(chr(31) || row) LIMIT 10"
        ).fetchall()
        assert [int(row["row"]) for row in rows if row["stratum"] == rule] == [row for (row,) in wanted]
    assert {row["policy"] for row in rows} == {policy_of("policies/support.route").digest}
    assert {row["score"] for row in rows} == {""}


def test_lines_take_turns(sheet: Path) -> None:
    """Scoring from the top down visits every stratum early: the first lines are one of each."""
    rows = read(sheet)
    strata = {row["stratum"] for row in rows}
    assert {row["stratum"] for row in rows[: len(strata)]} == strata


def test_the_order_of_rows_changes_nothing(decisions: Path, sheet: Path, tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled.parquet"
    duckdb.sql(f"COPY (SELECT * FROM '{decisions}' ORDER BY md5('x' || row)) TO '{shuffled}'")
    assert run(shuffled, "--per", "rule", 10, "--output", "again.csv").exit_code == 0
    assert Path("again.csv").read_bytes() == sheet.read_bytes()
    assert run(decisions, "--per", "rule", 10, "--output", "other.csv", "--seed", "two").exit_code == 0
    assert Path("other.csv").read_bytes() != sheet.read_bytes()


def test_text_only_on_demand(decisions: Path, sheet: Path) -> None:
    """Texts come from the trace; an answer only where the decided model gave it."""
    assert not {"prompt", "answer", "before"} & set(read(sheet)[0])
    done = run(decisions, "--per", "rule", 40, "--trace", TRACE, "--with-text")
    assert done.exit_code == 0 and "their recorded answers are left out" in done.output
    rows = read(Path("audit.csv"))
    changed = dict(duckdb.sql(f"SELECT row, changed FROM '{decisions}'").fetchall())
    outputs = dict(duckdb.sql(f"SELECT row_number() OVER () - 1, output FROM '{TRACE}'").fetchall())
    assert all(row["prompt"] for row in rows)
    assert any(row["before"].startswith("system: ") for row in rows)
    for row in rows:
        own = not changed[int(row["row"])] and outputs[int(row["row"])]
        assert bool(row["answer"]) == bool(own)
    assert run(decisions, "--with-text", "--output", "b.csv").exit_code == 2


def test_formulas_are_text(decisions: Path, tmp_path: Path) -> None:
    """A spreadsheet must not run what a user or a column holds; the scores come back under the true names."""
    nasty = tmp_path / "nasty.parquet"
    names = ["=HYPERLINK(1)", "+1", "-2", "@SUM(A1)", "\tx", "'=y", "plain"]
    listed = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}'" for name in names)
    duckdb.sql(f"COPY (SELECT * EXCLUDE team, [{listed}][1 + row % {len(names)}] AS team FROM '{decisions}') TO '{nasty}'")
    assert run(nasty, "--per", "team", 3, "--output", "nasty.csv").exit_code == 0
    rows = read(Path("nasty.csv"))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())
    assert {uncell(row["stratum"]) for row in rows} == set(names)
    assert {each.name for each in read_scores(scored(Path("nasty.csv"), lambda _row, _place: "yes")).strata} == set(names)


def test_parquet_and_json(decisions: Path) -> None:
    done = run(decisions, "--per", "plan", 5, "--output", "audit.parquet", "--json")
    told = json.loads(done.stdout)
    assert told["drawn"] == pq.read_table("audit.parquet").num_rows == 15 and told["left_out"] == 17
    with pytest.raises(AuditError, match="no line"):
        read_scores(Path("audit.parquet"))


def test_a_sheet_is_never_overwritten(decisions: Path) -> None:
    Path("audit.csv").write_text("scores of a week", "utf-8")
    assert run(decisions, "--per", "rule", 5).exit_code == 2
    assert Path("audit.csv").read_text("utf-8") == "scores of a week"
    assert run(decisions, "--per", "rule", 5, "--force").exit_code == 0


def test_a_replay_of_another_trace_is_noticed(decisions: Path, tmp_path: Path) -> None:
    cut, late = tmp_path / "cut.parquet", tmp_path / "late.parquet"
    duckdb.sql(f"COPY (SELECT * FROM '{TRACE}' LIMIT 2000) TO '{cut}'")
    duckdb.sql(f"COPY (SELECT * REPLACE (ts + INTERVAL 1 HOUR AS ts) FROM '{TRACE}') TO '{late}'")
    for path in (cut, late):
        done = run(decisions, "--per", "rule", 5, "--trace", path)
        assert done.exit_code == 2 and "not the one that these decisions were made for" in done.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["none.parquet"], "there is no file `none.parquet`"),
        ([str(ROOT / "README.md")], "is no parquet file"),
        ([str(TRACE)], "holds no decisions"),
        (["DECISIONS", "--per", "colour", "5"], "no column `colour`"),
        (["DECISIONS", "--per", "row", "5"], "too many for strata"),
        (["DECISIONS", "--per", "rule", "5", "--output", "sheet.xlsx"], "neither `.csv` nor `.parquet`"),
        (["DECISIONS", "--per", "rule", "5", "--policy", str(ROOT / "policies" / "hello.route")], "not of"),
        (["DECISIONS", "other.parquet"], "there is a second file"),
    ],
)
def test_what_cannot_be_drawn_says_why(decisions: Path, given: list[str], message: str) -> None:
    done = run(*(str(decisions) if word == "DECISIONS" else word for word in given))
    assert done.exit_code == 2 and message in done.output and "help" in done.output


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "written", "value"),
    [
        ("yes-no", "Yes", 1.0), ("yes-no", " n ", 0.0), ("yes-no", "TRUE", 1.0), ("yes-no", "0", 0.0),
        ("0-1", "0.25", 0.25), ("0-1", "0,25", 0.25), ("1-5", "1", 0.0), ("1-5", "4", 0.75), ("1-5", "5.0", 1.0),
    ],
)  # fmt: skip
def test_scores_of_each_scale(decisions: Path, scale: str, written: str, value: float) -> None:
    run(decisions, "--per", "plan", 2, "--scale", scale)
    found = read_scores(scored(Path("audit.csv"), lambda _row, place: written if place == 0 else ""))
    assert found.scale == scale and set(found.values.values()) == {(value,)}


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_as_spreadsheets_save_it(sheet: Path, delimiter: str, encoding: str) -> None:
    path = scored(sheet, lambda _row, place: "yes" if place else "no", delimiter=delimiter, encoding=encoding)
    found = read_scores(path)
    assert all(found.values[each.name].count(0.0) == 1 and len(found.values[each.name]) == each.drawn for each in found.strata)


def change(column: str, value: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [{**rows[0], column: value}, *rows[1:]]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows, "no line of .* is scored yet"),
        (change("score", "maybe"), "line 2 of .*: `maybe` is no score"),
        (change("score", "nan"), "`nan` is no score"),
        (change("stratum", "chaep"), "not as it was drawn"),
        (change("stratum_rows", "7"), "not as it was drawn"),
        (change("row", "7"), "not as it was drawn"),
        (change("policy", "0" * 64), "differ in `policy`"),
        (lambda rows: [{**row, "scale": "1-10"} for row in rows], "the scale `1-10`"),
        (lambda rows: [*rows, rows[0]], "repeats line 2"),
        (lambda rows: [{name: value for name, value in row.items() if name != "score"} for row in rows], "no column `score`"),
    ],
)  # fmt: skip
def test_a_bad_sheet_says_where(sheet: Path, edit: Callable[[list[Row]], list[Row]], message: str) -> None:
    with pytest.raises(AuditError, match=message) as raised:
        read_scores(write(sheet.with_name("edited.csv"), edit(read(sheet))))
    assert raised.value.help


@pytest.mark.parametrize(("scale", "written"), [("0-1", "1.5"), ("1-5", "0"), ("1-5", "nan"), ("0-1", "-0.1"), ("0-1", "inf")])
def test_a_score_out_of_range(decisions: Path, scale: str, written: str) -> None:
    run(decisions, "--per", "plan", 2, "--scale", scale)
    with pytest.raises(AuditError, match="is no score"):
        read_scores(scored(Path("audit.csv"), lambda _row, _place: written))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b"sample_id"])
def test_what_is_no_sheet(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.csv"
    path.write_bytes(content)
    with pytest.raises(AuditError):
        read_scores(path)


# -- judging -------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_plan(decisions: Path) -> Path:
    """A hundred requests of each plan."""
    assert run(decisions, "--per", "plan", 100, "--output", "plans.csv").exit_code == 0
    return Path("plans.csv")


def test_verdicts(by_plan: Path) -> None:
    """All of a hundred right shows 95 %; one wrong in ten doesn't, and is not shown to fail; half wrong fails."""
    wrong = {"pro": 2, "free": 0, "enterprise": 50}
    found = judged(
        read_scores(scored(by_plan, lambda row, place: "no" if place < wrong[row["stratum"]] else "yes")), watched=("pro", "free")
    )
    lines = {line["stratum"]: line for line in found["strata"]}
    assert {name: line["verdict"] for name, line in lines.items()} == {"free": "shown", "pro": "alarm", "enterprise": "failed"}
    assert (lines["free"]["low_percent"], lines["free"]["high_percent"]) == ("96.38", "100.00")
    assert (lines["pro"]["low_percent"], lines["pro"]["high_percent"]) == ("92.96", "99.76")
    (alarm,) = found["alarms"]
    assert alarm["stratum"] == "pro" and "not shown to be 95 % correct" in alarm["text"]
    assert clopper_pearson(0.98, lines["pro"]["enough"])[0] >= 0.95 > clopper_pearson(0.98, 200)[0]
    assert {line["verdict"] for line in judged(read_scores(Path("scored.csv")))["alarms"]} == {"alarm", "failed"}
    assert found["warnings"] == []


def test_the_overall_mean_weighs_by_size(by_plan: Path) -> None:
    """The stratified estimator by hand, and the interval of Zou, Huang and Zhang from the strata's."""
    wrong = {"pro": 10, "free": 0, "enterprise": 40}
    scores = read_scores(scored(by_plan, lambda row, place: "no" if place < wrong[row["stratum"]] else "yes"))
    found = judged(scores)
    mean, below = 0.0, 0.0
    for each in scores.strata:
        weight, own = each.rows / scores.population, 1 - wrong[each.name] / each.drawn
        mean, below = mean + weight * own, below + (weight * (own - clopper_pearson(own, each.drawn)[0])) ** 2
    assert found["overall"]["mean_percent"] == f"{mean * 100:.2f}"
    assert found["overall"]["low_percent"] == f"{(mean - math.sqrt(below)) * 100:.2f}"
    assert found["overall"]["covered_percent"] == "100.00"


def test_what_is_missing_is_told(by_plan: Path) -> None:
    path = scored(by_plan, lambda row, place: "" if row["stratum"] == "pro" or place > 80 else "yes")
    rows = [row for row in read(path) if row["stratum"] != "enterprise"]
    found = judged(read_scores(write(path, rows)), watched=("pro", "cheap"))
    assert [alarm["text"] for alarm in found["alarms"]] == [
        "plan `pro` has no scored line: its correctness is unknown", "plan `cheap` is not in the sheet: its correctness is unknown",
    ]  # fmt: skip
    told = " ".join(found["warnings"])
    assert "nothing is scored in `pro`" in told and "are gone from the sheet" in told and "drawn lines are not scored" in told
    assert float(found["overall"]["covered_percent"]) < 100


def test_scores_belong_to_a_policy(by_plan: Path) -> None:
    scores = read_scores(scored(by_plan, lambda _row, _place: "yes"))
    judged(scores, digest=policy_of("policies/support.route").digest)
    with pytest.raises(AuditError, match=r"those of policy .*, not of"):
        judged(scores, digest=policy_of("policies/saas.route").digest)
    assert judged(scores, digest=policy_of("policies/saas.route").digest, any_policy=True)["scored"] == scores_of(scores)


def scores_of(scores: Any) -> int:
    return sum(map(len, scores.values.values()))


def test_terminal(by_plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    found = judged(
        read_scores(scored(by_plan, lambda row, place: "no" if row["stratum"] == "pro" and place < 30 else "yes")), watched=("pro",)
    )
    render(found, Console(width=140, highlight=False))
    told = capsys.readouterr().out
    assert "shown not to be 95 % correct" in told and "overall" in told and "failed" in told


# -- intervals -----------------------------------------------------------------------------------------------------


def tail(k: int, n: int, p: float) -> float:
    """The chance of k or more of n, summed up."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 7), (4, 7), (29, 30), (40, 100), (399, 400)])
def test_beta_is_a_sum_of_chances(k: int, n: int) -> None:
    for p in (0.01, 0.2, 0.5, 0.77, 0.99):
        assert beta_share(p, k, n - k + 1) == pytest.approx(tail(k, n, p), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [
        (5, 10, 0.187086, 0.812914), (0, 10, 0.0, 0.308497), (10, 10, 0.691503, 1.0), (50, 50, 0.928864, 1.0), (1, 1, 0.025, 1.0),
        (81, 263, 0.252740, 0.367619),
    ],
)  # fmt: skip
def test_clopper_pearson_as_published(right: int, number: int, low: float, high: float) -> None:
    """Values of the tables; 81 of 263 is the example of Newcombe (1998)."""
    assert clopper_pearson(right / number, number) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("right", "number", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
)  # fmt: skip
def test_wilson_as_published(right: int, number: int, low: float, high: float) -> None:
    """The four examples of Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I."""
    assert wilson(right / number, number) == pytest.approx((low, high), abs=5e-5)


def test_clopper_pearson_covers_at_least_as_often_as_it_says() -> None:
    for number, p in itertools.product((5, 30, 72), (0.5, 0.9, 0.95, 0.99)):
        ends = [clopper_pearson(k / number, number) for k in range(number + 1)]
        covered = math.fsum(
            math.comb(number, k) * p**k * (1 - p) ** (number - k) for k, (low, high) in enumerate(ends) if low <= p <= high
        )
        assert covered >= 0.95


def test_how_many_scores_are_enough() -> None:
    assert enough_when_all_right("yes-no") == 72
    assert clopper_pearson(1, 72)[0] >= 0.95 > clopper_pearson(1, 71)[0]


def test_fewer_than_enough_is_said_when_drawing(decisions: Path) -> None:
    assert "fewer than 72 scores" in run(decisions, "--per", "plan", 50).output
    assert "fewer than" not in run(decisions, "--per", "plan", 72, "--force").output
