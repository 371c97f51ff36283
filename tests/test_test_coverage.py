"""Coverage of policies' tests, the words that conditions are shown in, and `policyroute test` with its options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.cli import cli
from policyroute.language import check_text
from policyroute.language.policy import TRUE, Apply, Expression, Literal, Read
from policyroute.language.reference import evaluate
from policyroute.language.wording import value_text, written
from policyroute.render import coverage as covering
from policyroute.testing.coverage import Coverage, measure, untested
from policyroute.testing.run import Suite

HEAD = """edition 1
policy covered
signal plan : free | pro | enterprise = free
words urgent = "outage"
model mini { id "gpt-4o-mini" }
model big  { id "gpt-4o" }
"""


def covered(rules: str, *givens: str) -> Coverage:
    tests = "".join(f'test "{number}" {{ given {each} expect otherwise }}\n' for number, each in enumerate(givens))
    checked = check_text(f"{HEAD}{rules}\notherwise {{ then mini }}\n{tests}")
    assert not checked.failed, checked.diagnostics
    return measure(checked.policy, ((request.test.name, request.values) for request in Suite(checked.policy).requests()))


AND = "rule r { when code and plan is pro then big }"
OR = "rule r { when code or not (tokens > 3k and json) then big }"
ATOMS: list[tuple[str, tuple[str, ...], dict[str, tuple[str, str]]]] = [  # rules, requests, each atom as true and as false
    (AND, (), {"code": ("never", "never"), "plan is pro": ("never", "never")}),
    (AND, ("code, plan pro",), {"code": ("mattered", "never"), "plan is pro": ("mattered", "never")}),
    (AND, ("code false",), {"code": ("never", "seen"), "plan is pro": ("never", "seen")}),
    (AND, ("code, plan pro", "code"), {"code": ("mattered", "never"), "plan is pro": ("mattered", "mattered")}),
    (AND, ("code, plan pro", "code", "plan pro"), {"code": ("mattered",) * 2, "plan is pro": ("mattered",) * 2}),
    (AND, ("code", "plan pro"), {"code": ("seen", "mattered"), "plan is pro": ("seen", "mattered")}),
    (OR, ("tokens 4k, json",), {"code": ("never", "mattered"), "tokens > 3k": ("mattered", "never"), "json": ("mattered", "never")}),
    (OR, ("code",), {"code": ("seen", "never"), "tokens > 3k": ("never", "seen"), "json": ("never", "seen")}),
    ("rule r { when code and (code or json) then big }", ("code", "json"), {"code": ("mattered", "mattered"), "json": ("seen", "seen")}),
    ("rule r { when not code then big }", ("code", "tokens 1"), {"code": ("mattered", "mattered")}),
    ("rule above { when json then big }\n" + AND, ("json, code, plan pro",), {"code": ("never",) * 2, "plan is pro": ("never",) * 2}),
    ("shadow rule above { when json then big }\n" + AND, ("json, code",), {"code": ("seen", "never"), "plan is pro": ("never", "mattered")}),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "requests", "wanted"), ATOMS, ids=[f"{rules}: {'; '.join(given)}" for rules, given, _ in ATOMS])
def test_atoms_are_seen_both_ways(rules: str, requests: tuple[str, ...], wanted: dict[str, tuple[str, str]]) -> None:
    found = next(rule for rule in covered(rules, *requests).rules if rule.rule == "r")
    assert {atom.text: (atom.true, atom.false) for atom in found.atoms} == wanted


def test_goals_are_rules_and_atoms() -> None:
    rules = f"shadow rule maybe {{ when json then big }}\n{AND}"
    bare, some, all_ = covered(rules), covered(rules, "code, plan pro"), covered(rules, "code, plan pro", "code", "plan pro, json")
    assert [(each.met, each.goals, each.tenths) for each in (bare, some, all_)] == [(0, 5, 0), (1, 5, 200), (5, 5, 1000)]
    assert [(rule.rule, rule.tests, rule.met, rule.goals) for rule in all_.rules] == [
        ("maybe", (), 1, 1),
        ("r", ("0",), 3, 3),
        ("otherwise", ("1", "2"), 1, 1),
    ]
    assert [atom.missing for rule in some.rules for atom in rule.atoms] == [
        ("never true",),  # of the shadow rule, whose one atom always matters
        ("never false",),
        ("never false",),
    ]
    assert covered(AND, "code, plan pro", "tokens 1").rules[0].atoms[0].missing == ("never false while it matters",)


def test_two_thirds_are_no_whole_percent() -> None:
    assert covered("rule r { when code then big }", "code").tenths == 333
    assert [covering.share(met, 3) for met in range(4)] == ["0.0%", "33.3%", "66.6%", "100.0%"]
    assert covering.share(9_999, 10_000) == "99.9%"


def test_the_definition_holds_by_brute_force() -> None:
    """On every condition of three booleans in two forms, counted from the definition."""
    names = ("code", "json", "stream")
    for text in ("code and (json or not stream)", "(code or json) and (not code or stream)"):
        vectors = list(product((False, True), repeat=3))
        for chosen in range(1, 1 << len(vectors)):
            if chosen % 7:
                continue  # every seventh set of requests
            shown = [vector for bit, vector in enumerate(vectors) if chosen >> bit & 1]
            _, policy = _policy(f"rule r {{ when {text} then big }}")
            condition = policy.rules[0].condition
            defaults = {name: signal.default for name, signal in policy.signals.items()}

            def holds(vector: tuple[bool, ...], condition: Expression = condition, defaults: Any = defaults) -> bool:
                return bool(evaluate(condition, defaults | dict(zip(names, vector, strict=True))))

            atoms = {
                atom.text: atom
                for atom in measure(policy, [("t", defaults | dict(zip(names, v, strict=True))) for v in shown]).rules[0].atoms
            }
            for place, name in enumerate(names):
                for way in (False, True):
                    here = [v for v in shown if v[place] is way]
                    matters = any(holds(v) != holds((*v[:place], not way, *v[place + 1 :])) for v in here)
                    wanted = "mattered" if matters else "seen" if here else "never"
                    assert (atoms[name].true if way else atoms[name].false) == wanted, (text, shown, name, way)


def test_rules_without_a_test_are_findings() -> None:
    _, policy = _policy(
        f"{AND}\nrule s {{ when json then big }}\nshadow rule t {{ when stream then big }}\n", 'test "t" { given code expect s }\n'
    )
    found = untested(policy, {"otherwise"})
    assert [(each.code, each.message, str(each.severity)) for each in found] == [
        ("untested-rule", "no test reaches rule `r`", "warning")
    ]
    assert [each.message for each in untested(policy, ())] == ["no test reaches rule `r`", "no test reaches rule `otherwise`"]


def _policy(rules: str, tests: str = "") -> tuple[Any, Any]:
    checked = check_text(f"{HEAD}{rules}\notherwise {{ then mini }}\n{tests}")
    assert not checked.failed, checked.diagnostics
    return checked.sources, checked.policy


# -- words ---------------------------------------------------------------------------------------------------------------

WORDS = [
    "plan is pro",
    "plan is not pro",
    "plan in (pro, enterprise)",
    "plan not in (pro, enterprise)",
    "prompt has urgent",
    "prompt not has urgent",
    "not code",
    "not (code and json)",
    "not tokens > 3k",
    "code or json and stream",
    "(code or json) and stream",
    "tokens - (last_tokens - 5) > 2 * turns + 1",
    "tokens + max_output >= 2M",
    "(tokens + 1) * 3 != 1500",
    'tool is "mcp__git-status"',
    "tool not in (read_file, none)",
    "code and (not json or images and tool_failed)",
]


@pytest.mark.parametrize("text", WORDS)
def test_conditions_are_written_as_a_reader_would(text: str) -> None:
    _, policy = _policy(f"rule r {{ when {text} then big }}")
    assert written(policy.rules[0].condition) == text


def test_lets_are_written_out_and_thresholds_keep_their_names() -> None:
    _, policy = _policy("tunable short : int 1..9k = 3k\nlet small = tokens < short\nrule r { when not small and code then big }")
    assert written(policy.rules[0].condition) == "not tokens < short and code"
    assert [value_text(value) for value in (True, 5, "pro", "a-b", "", "*")] == ["true", "5", "pro", '"a-b"', '""', "any other"]


_NUMBERS = st.recursive(
    st.sampled_from([Read("tokens"), Read("turns"), Literal(0), Literal(7), Literal(1_500), Literal(3_000)]),
    lambda inner: st.builds(lambda op, a, b: Apply(op, (a, b)), st.sampled_from("+-"), inner, inner),
    max_leaves=4,
)
_CONDITIONS = st.recursive(
    st.one_of(
        st.sampled_from([Read("code"), Read("json"), Read("prompt has urgent")]),
        st.lists(st.sampled_from(["free", "pro", "enterprise"]), min_size=1, max_size=2, unique=True).map(
            lambda members: Apply("in", (Read("plan"), *map(Literal, members)))
        ),
        st.builds(lambda op, a, b: Apply(op, (a, b)), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _NUMBERS, _NUMBERS),
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: Apply("not", (one,))),
        st.builds(
            lambda op, parts: Apply(op, tuple(parts)), st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_CONDITIONS)
def test_written_conditions_are_read_as_the_same(condition: Expression) -> None:
    """For every request of a few: the text means what the expression means. What was read is written the same again."""
    checked = check_text(f"{HEAD}rule r {{ when {written(condition)} then big }}\notherwise {{ then mini }}\n")
    assert not checked.failed, (written(condition), checked.diagnostics)
    again = checked.policy.rules[0].condition
    assert written(_policy(f"rule r {{ when {written(again)} then big }}")[1].rules[0].condition) == written(again)
    defaults = {name: signal.default for name, signal in checked.policy.signals.items()}
    for code, json_, urgent, plan, tokens in product((False, True), (False, True), (False, True), ("free", "pro"), (0, 7, 1_600)):
        values = defaults | {"code": code, "json": json_, "prompt has urgent": urgent, "plan": plan, "tokens": tokens}
        assert evaluate(again, values) == evaluate(condition, values)


# -- the command ---------------------------------------------------------------------------------------------------------

WHOLE = f"""{HEAD}{AND}
otherwise {{ then mini }}
test "code of a pro" {{ given code, plan pro expect r -> big }}
test "others" {{ given tokens 5 expect otherwise }}
"""
BARE = f"{HEAD}{AND}\notherwise {{ then mini }}\n"
PART = BARE + 'test "code of a pro" { given code, plan pro expect r }\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with three policies: tested as a whole, in part, and not at all."""
    monkeypatch.setenv("POLICYROUTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, text in (("whole", WHOLE), ("part", PART), ("bare", BARE)):
        (tmp_path / f"{name}.route").write_text(text, "utf-8")
    yield tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["test", *arguments], catch_exceptions=False)


def test_a_policy_whose_rules_all_have_tests_passes(place: Path) -> None:
    found = run("whole.route")
    assert (found.exit_code, found.stdout) == (0, "whole.route\n  ✓ code of a pro\n  ✓ others\n2 passed\n")


def test_a_rule_without_a_test_fails_unless_it_may(place: Path) -> None:
    found = run("part.route")
    line = "part.route:8:1: PR731 warning[untested-rule] no test reaches rule `otherwise`"
    assert (found.exit_code, found.stdout) == (1, f"part.route\n  ✓ code of a pro\n{line}\n1 passed, 1 rule without a test\n")
    assert (run("part.route", "--untested", "ok").exit_code, run("part.route", "-k", "code").exit_code) == (0, 0)
    for word in ("untested-rule", "PR731"):
        (place / "policyroute.toml").write_text(f'allow = ["{word}"]\n', "utf-8")
        assert run("part.route").exit_code == 0
    assert run("part.route", "--untested", "fail").exit_code == 1


def test_a_policy_without_tests_among_others_is_named(place: Path) -> None:
    found = run("whole.route", "bare.route")
    assert (found.exit_code, found.stdout.splitlines()[-1]) == (1, "2 passed, no tests in bare.route")
    assert run("whole.route", "bare.route", "--untested", "ok").exit_code == 0
    found = run("bare.route", "--untested", "ok")
    assert (found.exit_code, found.stdout) == (1, "bare.route\nno tests: nothing was shown\n")


def test_tests_are_picked_by_a_part_of_their_name(place: Path) -> None:
    found = run(".", "-k", "CODE OF", "-v")
    assert found.exit_code == 0
    assert found.stdout.splitlines() == [
        "part.route", "  ✓ code of a pro", "      r -> big", "whole.route", "  ✓ code of a pro", "      r -> big", "2 passed",
    ]  # fmt: skip
    assert run(".", "-k", "whole.route::others").stdout == "whole.route\n  ✓ others\n1 passed\n"
    assert (run(".", "-k", "nothing").exit_code, run(".", "-k", "nothing").stdout) == (1, "no tests: nothing was shown\n")


def test_coverage_is_a_table(place: Path) -> None:
    found = run("whole.route", "--coverage")
    assert found.exit_code == 0
    assert found.stdout.splitlines()[3:] == [
        "  rule       tests  atoms  missing",
        "  r              1    0/2  code: never false while it matters",
        "                           plan is pro: never false while it matters",
        "  otherwise      1      -",
        "  coverage 50.0%: 2 of 4 rules and atoms",
        "2 passed",
    ]


@pytest.mark.parametrize(("least", "code"), [("50%", 0), ("50.1%", 1), ("50", 0), ("100%", 1), ("0%", 0)])
def test_too_little_coverage_fails(place: Path, least: str, code: int) -> None:
    found = run("whole.route", "--at-least", least)
    assert found.exit_code == code
    assert ("is asked for" in found.stdout) is bool(code)


@pytest.mark.parametrize("least", ["", "many", "101%", "-1%", "nan"])
def test_a_share_that_is_none_is_refused(place: Path, least: str) -> None:
    found = run("whole.route", "--at-least", least)
    assert (found.exit_code, "is not a share" in found.stderr) == (2, True)


def test_coverage_for_programs_and_pull_requests() -> None:
    sources, policy = _policy(f'{AND}\nrule odd {{ when tool is "a|b" then big }}')
    found = measure(policy, [])
    whole = json.loads(json.dumps(covering.as_json(found, sources)))
    assert (whole["met"], whole["goals"], whole["percent"]) == (0, 6, 0.0)
    assert whole["rules"][0]["atoms"][1] == {
        "text": "plan is pro", "filename": "policy.route", "row": 7, "column": 24, "true": "never", "false": "never", "covered": False,
    }  # fmt: skip
    first = covering.github(found, sources).splitlines()[0]
    assert first == (
        "::notice title=policyroute (coverage),file=policy.route,line=7,col=6"
        "::rule r: code: never true, never false; plan is pro: never true, never false"
    )
    table = covering.markdown(found).splitlines()
    assert table[:3] == [
        "| rule | tests | atoms | missing |",
        "|---|---:|---:|---|",
        "| `r` | 0 | 0/2 | `code`: never true, never false<br>`plan is pro`: never true, never false |",
    ]
    assert table[3] == '| `odd` | 0 | 0/1 | `tool is "a\\|b"`: never true, never false |'


@pytest.mark.parametrize("format_", ["json", "junit", "github", "markdown"])
def test_results_for_programs(place: Path, format_: str) -> None:
    """Standard output is the document alone; what fails is said on standard error."""
    pytest.importorskip("policyroute.render.tests")
    found = run("part.route", "whole.route", "--coverage", "--format", format_)
    assert (found.exit_code, found.stderr) == (1, "3 passed, 1 rule without a test\n")
    assert ("::warning title=policyroute (PR731 untested-rule)" in found.stdout) is (format_ == "github")
    assert ("::notice title=policyroute (coverage)" in found.stdout) is (format_ == "github")
    if format_ == "json":
        whole = json.loads(found.stdout)
        assert [each["name"] for each in whole["findings"]] == ["untested-rule"]
        assert {path: each["goals"] for path, each in whole["coverage"].items()} == {"part.route": 4, "whole.route": 4}
    if format_ == "markdown":
        assert "| rule | tests | atoms | missing |" in found.stdout


def test_a_condition_that_is_a_constant_has_no_atoms() -> None:
    assert covered("").rules[0].atoms == () and check_text(BARE).policy.rules[-1].condition == TRUE
