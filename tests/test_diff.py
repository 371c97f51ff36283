"""`policyroute diff`: what moves between two policies, reckoned independently, and what the command says and returns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from policyroute.cli import cli
from policyroute.language import Policy
from policyroute.replay.diff.changes import changes
from policyroute.replay.diff.compare import compare
from policyroute.replay.diff.report import CLASSES, difference
from policyroute.replay.options import Options
from policyroute.replay.simulate import simulate
from tests.simulate_support import ROOT, Json, catalog, picodollars, policy_from, policy_of

SUPPORT, TRACE = ROOT / "policies" / "support.route", ROOT / "traces" / "support.parquet"
EDITS = {
    "short : int 20..400 = 60": "short : int 20..400 = 120",
    "prompt has urgent and plan in (pro, enterprise)": "prompt has urgent and plan is enterprise",
    'model mini   { id "gpt-4o-mini" }': 'model mini   { id "gpt-4o-mini"  in $0.30  out $0.90  cached $0.15 }',
}
TWO = """
model mini  { provider openai  id "mini-1"  in $1  out $2 }
model big   { provider openai  id "big-1"   in $10 out $20 }
"""

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The support policy with a threshold, a condition and a price changed, beside its words."""
    folder = tmp_path_factory.mktemp("policies")
    text = SUPPORT.read_text("utf-8").replace('"words/', f'"{ROOT}/policies/words/')
    for before, after in EDITS.items():
        assert before in text
        text = text.replace(before, after)
    path = folder / "edited.route"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POLICYROUTE_CACHE", str(tmp_path_factory.getbasetemp() / "diff-cache"))
    monkeypatch.chdir(ROOT)
    yield


@pytest.fixture
def trace(tmp_path: Path) -> Write:
    """Writes calls as JSON lines."""

    def write(*calls: dict[str, Any], name: str = "trace") -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(call) + "\n" for call in calls), "utf-8")
        return path

    return write


def call(tokens: int | None = 50, **more: Any) -> dict[str, Any]:
    return {
        "ts": "2026-05-01T10:00:00Z",
        "provider": "openai",
        "model": "big-1",
        "input_tokens": tokens,
        "output_tokens": 10,
        **more,
    }


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, arguments)])


def diff(old: Policy, new: Policy, *paths: Path, **options: Any) -> Json:
    return difference(compare(old, new, list(paths), catalog(), Options(**options)), catalog())


@pytest.fixture(scope="module")
def found(edited: Path) -> Json:
    return diff(policy_of(SUPPORT), policy_of(edited), TRACE)


# -- decisions and money -------------------------------------------------------------------------------------------


def decisions(policy: Policy, folder: Path) -> Path:
    """What `simulate --output` writes for a policy."""
    target = folder / f"{policy.digest}.parquet"
    simulate(policy, [TRACE], catalog(), Options(output=target, prompt_cache="held", failures=False))
    return target


@pytest.fixture(scope="module")
def joined(edited: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Both policies' decisions, replayed one by one, as the view `joined`: an independent way to the same figures."""
    folder = tmp_path_factory.mktemp("decisions")
    old, new = (decisions(policy_of(path), folder) for path in (SUPPORT, edited))
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE VIEW joined AS SELECT row, o.rule AS old_rule, n.rule AS new_rule, o.new_model AS old_model, n.new_model AS new_model, "
            f"o.new_cost_usd AS old_cost, n.new_cost_usd AS new_cost, n.plan, o.user_id, "
            f"o.new_model IS DISTINCT FROM n.new_model AS moved FROM '{old}' o JOIN '{new}' n USING (row)"
        )
        yield connection


def test_decisions_are_those_of_two_replays(found: Json, joined: duckdb.DuckDBPyConnection) -> None:
    ((rows, moved, ruled),) = joined.sql(
        "SELECT count(*), count_if(moved), count_if(NOT moved AND old_rule <> new_rule) FROM joined"
    ).fetchall()
    counts = found["decisions"]
    assert moved > 20
    assert (counts["rows"], counts["moved"], counts["same_by_another_rule"]) == (rows, moved, ruled)
    assert counts["same"] == rows - moved and counts["not_comparable"] == 0


def test_money_is_that_of_two_replays(found: Json, joined: duckdb.DuckDBPyConnection) -> None:
    """To the last picodollar, moved and stayed: a stated price changes money without moving anything."""
    for part, where in (("moved", "moved"), ("stayed", "NOT moved")):
        ((rows, old, new),) = joined.sql(
            f"SELECT count(*), sum(old_cost), sum(new_cost) FROM joined WHERE {where} AND old_cost IS NOT NULL AND new_cost IS NOT NULL"
        ).fetchall()
        line = found["money"][part]
        assert (line["rows"], Decimal(line["old_usd"]), Decimal(line["new_usd"])) == (rows, old, new)
    assert Decimal(found["money"]["stayed"]["difference_usd"]) > 0
    parts = [picodollars(found["money"][part]["difference_usd"]) for part in ("moved", "stayed")]
    assert picodollars(found["money"]["difference_usd"]) == sum(parts)


def test_pairs_of_rules(found: Json, joined: duckdb.DuckDBPyConnection) -> None:
    rows = joined.sql(
        "SELECT old_rule, new_rule, count(*), sum(new_cost - old_cost) FROM joined WHERE moved GROUP BY ALL ORDER BY abs(sum(new_cost - old_cost)) DESC"
    ).fetchall()
    assert rows == [
        (pair["old_rule"], pair["new_rule"], pair["all_rows"], Decimal(pair["priced"]["difference_usd"])) for pair in found["pairs"]
    ]


def test_examples(found: Json, joined: duckdb.DuckDBPyConnection) -> None:
    """At most three of each pair: the dearest difference, then those first by MD5, each as both replays have it."""
    for pair in found["pairs"]:
        own = f"moved AND old_rule = '{pair['old_rule']}' AND new_rule = '{pair['new_rule']}'"
        ((largest,),) = joined.sql(f"SELECT max(abs(new_cost - old_cost)) FROM joined WHERE {own}").fetchall()
        dearest, *drawn = pair["examples"]
        assert abs(Decimal(dearest["difference_usd"])) == largest
        hashed = [row for (row,) in joined.sql(f"SELECT row FROM joined WHERE {own} ORDER BY md5('example ' || row)").fetchall()]
        assert [one["row"] for one in drawn] == [row for row in hashed if row != dearest["row"]][:2]
        for one in pair["examples"]:
            ((old, new, before, after, user),) = joined.sql(
                f"SELECT old_model, new_model, old_cost, new_cost, user_id FROM joined WHERE row = {one['row']}"
            ).fetchall()
            assert (one["old_model"], one["new_model"], one["user_id"]) == (old, new, user)
            assert (Decimal(one["old_usd"]), Decimal(one["new_usd"])) == (before, after)
            assert one["request_id"].startswith("support-") and one["ts"].endswith("Z") and "text" not in one


def test_who(found: Json, joined: duckdb.DuckDBPyConnection) -> None:
    for name, column in (("plan", "plan"), ("user_id", "user_id")):
        rows = dict(
            joined.sql(
                f"SELECT {column}, sum(new_cost - old_cost) FROM joined WHERE old_cost IS NOT NULL AND new_cost IS NOT NULL GROUP BY ALL"
            ).fetchall()
        )
        segment = found["segments"][name]
        assert (segment["dearer_members"], segment["cheaper_members"]) == (
            sum(v > 0 for v in rows.values()),
            sum(v < 0 for v in rows.values()),
        )
        for line in (*segment["dearer"], *segment["cheaper"]):
            assert Decimal(line["difference_usd"]) == rows[line["member"]]
        assert Decimal(segment["dearer"][0]["difference_usd"]) == max(rows.values())


def test_tables_add_up(found: Json) -> None:
    moved = found["decisions"]["moved"]
    assert sum(line["moved_rows"] for line in found["tiers"]) == moved == sum(line["all_rows"] for line in found["models"])
    assert sum(line["all_rows"] for line in found["tiers"]) == sum(line["rows"] for line in found["accounting"]) == 2_400
    assert sum(picodollars(line["priced"]["difference_usd"]) for line in found["tiers"] if line["priced"]) == picodollars(
        found["money"]["difference_usd"]
    )
    assert {line["direction"] for line in found["tiers"] if line["from"] == "premium" and line["to"] == "cheap"} == {"down"}


def test_interval_holds_the_difference(found: Json) -> None:
    low, high = map(Decimal, found["interval"]["difference_usd"])
    assert low < Decimal(found["money"]["difference_usd"]) < high
    assert found["interval"]["cluster"] == "user_id"


def test_backwards_is_the_opposite(found: Json, edited: Path) -> None:
    back = diff(policy_of(edited), policy_of(SUPPORT), TRACE)
    assert picodollars(back["money"]["difference_usd"]) == -picodollars(found["money"]["difference_usd"])
    assert back["decisions"]["moved"] == found["decisions"]["moved"]


def test_parts_and_threads_change_no_digit(found: Json, edited: Path, tmp_path: Path) -> None:
    """The trace cut in two files and read by one thread gives the same result, examples too."""
    for number, where in enumerate(("<", ">=")):
        duckdb.sql(
            f"COPY (SELECT * EXCLUDE n FROM (SELECT *, row_number() OVER () AS n FROM '{TRACE}') WHERE n {where} 901) TO '{tmp_path}/{number}.parquet'"
        )
    again = diff(policy_of(SUPPORT), policy_of(edited), tmp_path / "0.parquet", tmp_path / "1.parquet", threads=1)
    assert {name: value for name, value in again.items() if name not in ("trace", "digests")} == {
        name: value for name, value in found.items() if name not in ("trace", "digests")
    }


# -- outcomes that are no model ------------------------------------------------------------------------------------


def lines(found: Json) -> dict[tuple[str, str], int]:
    return {(line["class"], line["side"]): line["rows"] for line in found["accounting"]}


def test_what_has_no_money_is_accounted(trace: Write) -> None:
    """Refused, unroutable, not replayable and unpriceable rows are counted on their side and belong to no sum."""
    old = policy_from(TWO + 'rule no { when tokens > 1k then refuse "no" }\notherwise { then big }\n')
    new = policy_from(
        TWO + 'model vague { id "nobody-sells-this" }\nforbid big when tokens > 90 and tokens < 100\n'
        "rule dear { when tokens == 70 then vague }\nrule deep { when turns > 3 then mini }\notherwise { then big }\n"
    )  # fmt: skip
    found = diff(old, new, trace(call(70), call(95), call(2_000)), assume={"turns": 1})
    assert lines(found) == {("unpriceable", "both"): 1, ("unroutable", "new"): 1, ("refused", "old"): 1}
    assert found["money"]["rows"] == 0 and found["interval"] is None and found["decisions"]["moved"] == 3
    refused = next(line for line in found["accounting"] if line["class"] == "refused")
    assert (refused["old_usd"], refused["new_usd"], refused["old_unknown_rows"]) == (None, "0.020200000000", 1)
    assert {line["class"] for line in found["accounting"]} <= set(CLASSES)
    assert all(pair["priced"] is None for pair in found["pairs"])
    assert {(line["from"], line["to"]) for line in found["models"]} == {
        ("big", "vague"),
        ("big", "(no model left)"),
        ("(refused)", "big"),
    }

    unknown = diff(old, new, trace(call(50), call(70)))
    assert lines(unknown) == {("not replayable", "new"): 1, ("unpriceable", "both"): 1}
    assert unknown["decisions"]["not_comparable"] == 1
    assert [(line["signal"], line["rows"]) for line in unknown["unknown_signals"]] == [("turns", 2)]


def test_a_model_is_its_id_and_not_its_name(trace: Write) -> None:
    """A renamed model moves nothing; the same name for another id moves everything, and both ids are told."""
    old = policy_from(TWO + "otherwise { then mini }\n")
    renamed = policy_from(TWO.replace("model mini ", "model tiny ") + "otherwise { then tiny }\n")
    assert diff(old, renamed, trace(call()))["decisions"]["moved"] == 0
    other = policy_from(TWO.replace('id "mini-1"', 'id "mini-2"') + "otherwise { then mini }\n")
    found = diff(old, other, trace(call()))
    assert [(line["from"], line["to"]) for line in found["models"]] == [("mini (mini-1)", "mini (mini-2)")]
    assert found["tiers"][0]["from"] == found["tiers"][0]["to"] == "mini" and found["tiers"][0]["moved_rows"] == 1


def test_other_fallbacks_and_other_rules_are_told(trace: Write) -> None:
    old = policy_from(TWO + "rule short { when tokens < 100 then mini }\notherwise { then big }\n")
    new = policy_from(TWO + "rule tiny { when tokens < 60 then mini }\notherwise { then big fallback mini }\n")
    counts = diff(old, new, trace(call(50), call(80), call(500)))["decisions"]
    assert (counts["moved"], counts["same_by_another_rule"], counts["same_with_other_fallbacks"]) == (1, 1, 1)


def test_state_moves_decisions_and_without_is_told(trace: Write) -> None:
    plain = TWO + "rule short { when tokens < 100 then mini }\notherwise { then big }\n"
    old, new = policy_from(plain), policy_from(plain + "quota few { 2 per day by user of big when tokens > 5 then mini }\n")
    assert diff(old, new, trace(*(call(500 + number) for number in range(4))))["decisions"]["moved"] == 2
    assert any("new policy is replayed without" in text for text in diff(old, new, trace(call()), without=["quota"])["assumptions"])


# -- as written ----------------------------------------------------------------------------------------------------

BASE = TWO + """
signal plan : free | pro = free  from header "x-plan"
words urgent = "down", "outage"
tunable short : int 20..400 = 60
tier cheap = mini
tier best  = big
order cheap < best
forbid big when plan is free
rule first  { when tokens < short then cheap }
rule second { when prompt has urgent then best }
rule third  { when tokens > 2k and not (plan is pro or turns >= 3) then best }
otherwise   { then cheap }
"""  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("= 60", "= 90", [("tunable short", "changed", "60 -> 90, read by first")]),
        ("20..400 = 60", "20..500 = 60", [("tunable short", "changed", "60 (int 20..400) -> 60 (int 20..500), read by first")]),
        ("tokens > 2k and", "tokens > 3k and", [(
            "rule third", "changed", "when tokens > 2k and not (plan is pro or turns >= 3) -> tokens > 3k and not (plan is pro or turns >= 3)",
        )]),
        ("has urgent then best", "has urgent then cheap", [("rule second", "changed", "then best -> cheap")]),
        ("rule second", "rule other", [("rule other", "renamed", "was `second`, with the same condition and target")]),
        ("rule second { when prompt has urgent then best }", "", [("rule second", "removed", "when prompt has urgent then best")]),
        ("otherwise ", "rule fourth { when turns > 5 then best }\notherwise ", [("rule fourth", "added", "after `third`: when turns > 5 then best")]),
        ("rule second", "shadow rule second", [("rule second", "changed", "now a shadow: evaluated, never served")]),
        ("in $1  out $2", "in $1.50  out $2", [("model mini", "changed", "price in $1 out $2 -> in $1.5 out $2")]),
        ('"mini-1"', '"mini-2"', [("model mini", "changed", "id mini-1 -> mini-2")]),
        ("tier cheap = mini", "tier cheap = mini, big", [("tier cheap", "changed", "mini -> mini, big")]),
        ("when plan is free\n", "when plan is pro\n", [("forbid big when plan is free", "removed", ""), ("forbid big when plan is pro", "added", "")]),
        ('"outage"', '"outage", "broken"', [("words urgent", "changed", "2 phrases, such as down, outage -> 3 phrases, such as down, outage, broken")]),
        ("= free  from", "= pro  from", [("signal plan", "changed", 'free | pro, default free, from header "x-plan" -> free | pro, default pro, from header "x-plan"')]),
        ("otherwise   { then cheap }", "otherwise   { then cheap }\nexplore 1.5% by user", [("explore", "added", "1.5% by user")]),
        ("otherwise   { then cheap }", "otherwise   { then cheap }\nquota few { 5 per day by user of big when tokens > 5 then mini }", [("quota few", "added", "")]),
        ("otherwise   { then cheap }", 'otherwise   { then cheap }\ngate money on "t.parquet" against recorded { require savings > 5% }', [("gate money", "added", "savings > 5%")]),
    ],
)  # fmt: skip
def test_changes_in_words(before: str, after: str, wanted: list[tuple[str, str, str]]) -> None:
    assert BASE.count(before) == 1
    found = changes(policy_from(BASE), policy_from(BASE.replace(before, after)), catalog())
    told = [(f"{each.kind} {each.name}".strip(), each.change, each.text) for each in found]
    for name, change, text in wanted:
        assert any(line[:2] == (name, change) and text in line[2] for line in told), told
    assert len(told) == len(wanted), told


def test_a_moved_rule_is_told_once() -> None:
    rules = [line for line in BASE.splitlines() if line.startswith("rule")]
    text = BASE.replace("\n".join(rules), "\n".join((rules[1], rules[2], rules[0])))
    assert [(each.name, each.change, each.text) for each in changes(policy_from(BASE), policy_from(text), catalog())] == [
        ("first", "moved", "now after `third`")
    ]


def test_another_name_redraws_what_is_split() -> None:
    old, new = (policy_from(f"edition 1\npolicy {name}\n{BASE}explore 1% by user\n") for name in ("here", "there"))
    (renamed,) = changes(old, new, catalog())
    assert "other arms" in renamed.text


def test_a_library_price_is_that_of_most_requests() -> None:
    """Not that of a priority tier or of another time, which the same list holds."""
    new = policy_from(BASE.replace("words urgent", 'model fast { id "gpt-4o" }\nwords urgent'))
    (added,) = changes(policy_from(BASE), new, catalog())
    assert added.text.startswith("gpt-4o, in $2.5 out $10 cached $1.25 and")


# -- the command ---------------------------------------------------------------------------------------------------


def test_terminal(edited: Path) -> None:
    done = run(SUPPORT, edited, "--traces", TRACE, "--with-text")
    assert done.exit_code == 0, done.output
    for text in (
        "Between tiers",
        "By pair of rules",
        "incident -> otherwise",
        "Who",
        "plan",
        "user_id",
        "come from other prices",
        "95 % interval",
        "For every possible request:",
        "the proof holds for all",
    ):
        assert text in done.output
    assert len(run(SUPPORT, edited, "--traces", TRACE).output.splitlines()) <= 66


def test_markdown(edited: Path) -> None:
    done = run(SUPPORT, edited, "--traces", TRACE, "--format", "markdown")
    assert done.exit_code == 0
    assert done.output.startswith("### policyroute diff: `support ")
    assert "| `premium` | `standard` ↓ |" in done.output and done.output.count("<details>") == done.output.count("</details>") > 3


def test_markdown_shows_names_as_text(trace: Write, tmp_path: Path) -> None:
    """A user's name from a trace can't write into a pull request."""
    for name, text in (("old", "otherwise { then mini }\n"), ("new", "otherwise { then big }\n")):
        (tmp_path / f"{name}.route").write_text(f"edition 1\npolicy example\n{TWO}{text}", "utf-8")
    path = trace(call(user_id="</summary><img src=x>|@all`x`", team="[bold]red[/]"), call(user_id="b"))
    done = run(tmp_path / "old.route", tmp_path / "new.route", "--traces", path, "--format", "markdown")
    assert "`</summary><img src=x>|@all'x'`" in done.output
    rest = re.sub(r"`[^`]*`", "", done.output)
    assert "<img" not in rest and "@all" not in rest and "[bold]" not in rest
    shown = run(tmp_path / "old.route", tmp_path / "new.route", "--traces", path)
    assert "[bold]red[/]" in shown.output


def test_json_is_the_result(found: Json, edited: Path) -> None:
    for option in (["--json"], ["--format", "json"]):
        told = json.loads(run(SUPPORT, edited, "--traces", TRACE, *option).stdout)
        assert told["schema"] == "policyroute.diff/1" and told["money"] == found["money"] and told["pairs"] == found["pairs"]


@pytest.mark.parametrize("given", [[], ["--traces", str(TRACE)], ["--format", "markdown"]])
def test_identical(given: list[str], tmp_path: Path) -> None:
    """Comments and layout are no difference, and no trace is needed to say so."""
    copy = tmp_path / "copy.route"
    copy.write_text("# a comment\n" + SUPPORT.read_text("utf-8").replace('"words/', f'"{ROOT}/policies/words/'), "utf-8")
    done = run(SUPPORT, copy, "--exit-code", *given)
    assert done.exit_code == 0 and "dentical" in done.output


def test_without_traces_it_is_proved(edited: Path) -> None:
    done = run(SUPPORT, edited)
    assert done.exit_code == 0
    assert "tunable short changed: 60 -> 120, read by quick_question" in done.output
    assert "For every possible request:" in done.output and "no other one does" in done.output
    assert run(SUPPORT, edited, "--exit-code").exit_code == 1
    told = run(SUPPORT, edited, "--format", "markdown").output
    assert "For every possible request" in told and "of the trace" not in told
    assert "For every possible" not in run(SUPPORT, edited, "--no-proofs").output


def test_a_rewritten_policy_is_proved_to_be_the_same(tmp_path: Path) -> None:
    """What is written otherwise and decides alike moves nothing, for every possible request."""
    for name, condition in (("old", "tokens > 3k and not code"), ("new", "not (code or tokens <= 3k)")):
        text = f"edition 1\npolicy example\n{TWO}rule long {{ when {condition} then big }}\notherwise {{ then mini }}\n"
        (tmp_path / f"{name}.route").write_text(text, "utf-8")
    done = run(tmp_path / "old.route", tmp_path / "new.route", "--exit-code")
    assert done.exit_code == 0 and "Proved: every possible request is sent the same way" in done.output
    late = run(tmp_path / "old.route", tmp_path / "new.route", "--exit-code", "--proof-time", "0.001")
    assert late.exit_code == 1 and "Not proven" in late.output


def test_exit_code_is_about_decisions(tmp_path: Path, trace: Write) -> None:
    """A changed price alone moves nothing."""
    old, dear, other = (tmp_path / f"{name}.route" for name in ("old", "dear", "other"))
    text = f"edition 1\npolicy example\n{TWO}otherwise {{ then mini }}\n"
    old.write_text(text, "utf-8")
    dear.write_text(text.replace("in $1 ", "in $3 "), "utf-8")
    other.write_text(text.replace("then mini", "then big"), "utf-8")
    path = trace(call())
    assert run(old, dear, "--traces", path, "--exit-code").exit_code == 0
    assert run(old, other, "--traces", path, "--exit-code").exit_code == 1


def test_traces_as_the_shell_gives_them(edited: Path, trace: Write, tmp_path: Path) -> None:
    """`--traces logs/*` is several words."""
    for name in ("old", "new"):
        then = "mini" if name == "old" else "big"
        (tmp_path / f"{name}.route").write_text(f"edition 1\npolicy example\n{TWO}otherwise {{ then {then} }}\n", "utf-8")
    one, two = trace(call(), name="one"), trace(call(60), call(70), name="two")
    done = run(tmp_path / "old.route", tmp_path / "new.route", "--traces", one, two, "--json")
    assert json.loads(done.stdout)["trace"]["rows"] == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["policies/support.route", "policies/saas.route", "traces/support.parquet"], "there is a third file"),
        (["policies/support.route", "policies/none.route"], "there is no file `policies/none.route`"),
        (["policies/support.route", "policies/saas.route", "--format", "otel"], "no format of the output"),
        (["policies/support.route", "policies/hello.route", "--traces", "none.parquet"], "none.parquet"),
        (["policies/support.route", "policies/hello.route", "--traces", "traces/support.parquet", "--assume", "plam=free"], "no signal is named `plam`"),
        (["policies/support.route", "policies/hello.route", "--traces", "traces/support.parquet", "--by", "colour"], "no column `colour`"),
    ],
)  # fmt: skip
def test_what_cannot_run_says_why(given: list[str], message: str) -> None:
    done = run(*given)
    assert done.exit_code == 2 and message in done.output and "help" in done.output
