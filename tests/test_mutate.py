"""Mutants: what is made, what tests kill, and that the missing tests bring the score to 100 %."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings

from policyroute.cli import cli
from policyroute.language import Policy, check_text
from policyroute.language.policy import Apply, Literal, Read
from policyroute.language.reference import decide
from policyroute.testing.mutation.mutants import OPERATORS, mutants
from policyroute.testing.mutation.score import score
from tests.strategies import policies, policy_texts

pytest.importorskip("z3")
ROOT = Path(__file__).parents[1]
SHARED = Path(__file__).parents[2] / "shared" / "design" / "policies"
POLICY = """edition 1
policy desk
signal plan : free | pro = free  from header "x-plan"
model mini   { id "a" in $1 out $2 can tools, images }
model strong { id "b" in $3 out $9 }
tier cheap = mini, strong
tier best  = strong, mini
order cheap < best
forbid mini when plan is pro and steps > 4
let long = tokens >= 500
rule many { when long or (plan is pro and code) then best }
rule some { when long and images then cheap }
otherwise { then split by user { 90% cheap, 10% best } }
test "a long text" {
  given tokens 600
  expect many -> strong, mini
}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_every_operator_makes_mutants() -> None:
    """Each operator of the table changes something of a policy that has everything; what a let holds is changed once, everywhere."""
    policy = check_text(POLICY).policy
    made = list(mutants(policy))
    assert {mutant.operator for mutant in made} == set(OPERATORS)
    moved = [mutant for mutant in made if (mutant.before, mutant.after) == ("tokens >= 500", "tokens >= 501")]
    assert len(moved) == 1
    changed = Apply(">=", (Read("tokens"), Literal(501)))
    rules = {rule.name: rule.condition for rule in moved[0].policy.rules}
    assert isinstance(rules["many"], Apply) and isinstance(rules["some"], Apply)
    assert changed in rules["many"].arguments and changed in rules["some"].arguments


@settings(max_examples=60, deadline=None)
@given(policy=policies)
def test_a_mutant_differs_in_what_it_says(policy: Policy) -> None:
    for mutant in mutants(policy):
        assert (mutant.policy.rules, mutant.policy.forbids) != (policy.rules, policy.forbids)
        assert mutant.before != mutant.after and mutant.operator in OPERATORS
        assert [rule for rule in mutant.policy.rules if rule.shadow] == [rule for rule in policy.rules if rule.shadow]


@settings(max_examples=8, deadline=None)
@given(text=policy_texts())
def test_the_missing_tests_kill_all(text: str) -> None:
    """With the missing tests no mutant survives, whatever the policy; each test passes on it."""
    policy = check_text(text).policy
    first = score(policy, Path())
    more = check_text(text + "\n".join(missing.block for missing in first.missing))
    assert not more.failed, more.diagnostics
    second = score(more.policy, Path())
    told = sum(survivor.proved for survivor in first.survivors)
    assert not [survivor for survivor in second.survivors if survivor.proved]
    assert len(second.killed) == len(first.killed) + told
    # a share so small that no key of those tried is drawn to it stays undecided
    assert {survivor.mutant.operator for survivor in second.survivors} <= {"moved share"}


def test_equivalent_mutants_are(tmp_path: Path) -> None:
    """What is called equivalent decides alike over a grid of requests; `long and images` never gets its turn."""
    policy = check_text(POLICY).policy
    found = score(policy, tmp_path)
    assert found.equivalent
    base = {name: signal.default for name, signal in policy.signals.items()}
    grid = [
        base | {"tokens": tokens, "plan": plan, "code": code, "images": images, "steps": steps, "user": user}
        for tokens in (0, 499, 500, 501) for plan in ("free", "pro") for code in (True, False) for images in (True, False)
        for steps in (4, 5) for user in ("", "u1", "u7")
    ]  # fmt: skip
    for mutant in found.equivalent:
        for values in grid:
            one, other = decide(policy, values), decide(mutant.policy, values)
            assert (one.rule, one.chain) == (other.rule, other.chain), mutant


@pytest.mark.parametrize("name", ["support", "saas", "coding", "hello", "shared support", "shared coding"])
def test_write_brings_the_score_to_all(name: str, tmp_path: Path) -> None:
    """On a copy of each example policy, and of each of the design; what stood there stays as it was."""
    if name.startswith("shared") and not SHARED.is_dir():
        pytest.skip("the design's policies are not here")
    folder = SHARED if name.startswith("shared") else ROOT / "policies"
    shutil.copytree(folder, tmp_path / "p")
    file = tmp_path / "p" / f"{name.split()[-1]}.route"
    before = file.read_text("utf-8")
    found = run("mutate", str(file), "--write", "--at-least", "100%")
    assert found.exit_code == 0, found.output
    assert "score 100 %" in found.stdout and file.read_text("utf-8").startswith(before.rstrip())
    assert run("test", str(file), "--untested", "ok").exit_code == 0
    assert run("check", str(file)).exit_code == 0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "desk.route"
    path.write_text(POLICY, "utf-8")
    return path


def test_what_is_printed(file: Path) -> None:
    told = run("mutate", "desk.route")
    assert told.exit_code == 0 and "survived  desk.route:" in told.stdout and 'test "' in told.stdout
    assert file.read_text("utf-8") == POLICY
    low = run("mutate", "desk.route", "--at-least", "99.5%")
    assert low.exit_code == 1 and "at least 99.5% is asked for" in low.stderr
    whole = json.loads(run("mutate", "desk.route", "--json").stdout)["desk.route"]
    assert sum(whole["counts"].values()) == len(whole["mutants"]) and whole["counts"]["survived"] > 0
    assert {"file": "desk.route", "line": 9}.items() <= next(
        m for m in whole["mutants"] if m["operator"] == "dropped forbid"
    ).items()
    told = run("mutate", "desk.route", "--format", "markdown").stdout
    assert told.startswith("### policyroute mutate: desk.route: score") and told.count("```") % 2 == 0


def test_without_time_nothing_is_called_equivalent(file: Path) -> None:
    """A mutant that could not be told apart counts as a survivor, and is said to be undecided."""
    whole = json.loads(run("mutate", "desk.route", "--proof-time", "0.001", "--json").stdout)["desk.route"]
    assert whole["counts"]["equivalent"] == 0 and whole["not_proven"] == whole["counts"]["survived"] > 0 and not whole["missing"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at-least", "120%"], "not a share"),
        (["--at-least", "x"], "not a share"),
        (["nowhere.route"], "no file"),
        (["models.route"], "holds rules"),
    ],
)
def test_mistakes(file: Path, arguments: list[str], said: str) -> None:
    (file.parent / "models.route").write_text('edition 1\nmodel m { id "m" in $1 out $1 }\n', "utf-8")
    names = arguments if arguments[0].endswith(".route") else ["desk.route", *arguments]
    found = run("mutate", *names)
    assert found.exit_code == 2 and said in found.stderr


def test_what_state_had_a_part_in_is_followed_anew() -> None:
    """A test that ends in a used-up quota kills what it tells apart, and no more: without following the mutant it would kill everything."""
    stateful = POLICY + (
        "quota few { 2 per day by user of strong then mini }\n"
        'test "the third long text is cheap" {\n  given tokens 600 repeated 2 times\n  expect many -> strong, mini\n'
        "  then given tokens 600\n  expect many by quota few -> mini\n}\n"
    )
    plain, followed = (score(check_text(text).policy, Path()) for text in (POLICY, stateful))
    killed = {(mutant.operator, mutant.of, mutant.after) for mutant in plain.killed}
    assert killed <= {(mutant.operator, mutant.of, mutant.after) for mutant in followed.killed}
    assert 0 < len(followed.killed) < len(followed.killed) + len(followed.survivors)
    assert len(followed.survivors) >= len(plain.survivors) - 2
