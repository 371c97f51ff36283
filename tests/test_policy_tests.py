"""`test` blocks: what passes, what a failure explains, and what is not run because this version can't compute it."""

from __future__ import annotations

import pytest

from policyroute.language import check_text
from policyroute.language.decision import Decision
from policyroute.language.policy import Expect
from policyroute.testing.run import Outcome, Suite, shown
from tests.simulate_support import SHARED, policy_of

DECLARED = """edition 1
policy tested
signal plan   : free | pro = free
signal region : us | eu = us
words urgent = "outage", "data loss"
model mini  { id "m"  in $1 out $1 context 8k }
model big   { id "b"  in $2 out $2 can tools }
model local { id "l"  in $0 out $0 }
tier cheap = mini, local
forbid local when region is eu  because "no EU endpoint"
rule long   { when tokens > 100k then refuse "too long" }
rule urgent_ones { when prompt has urgent and plan is pro then big fallback mini }
shadow rule maybe { when tokens < 10 then local }
rule pilot  { when code then split by user { 50% cheap, 50% big } }
"""


def outcomes(text: str, otherwise: str = "otherwise { then cheap }\n") -> list[Outcome]:
    checked = check_text(DECLARED + text + otherwise)
    assert not checked.failed, checked.diagnostics
    return list(Suite(checked.policy).run())


def outcome(given: str, expect: str, *more: str) -> Outcome:
    steps = "".join(f"\n  {step}" for step in more)
    (found,) = outcomes(f'test "one" {{\n  given {given}\n  expect {expect}{steps}\n}}\n')
    return found


PASSING = [
    ("tokens 500", "otherwise -> mini, local"),
    ("tokens 500", "otherwise"),
    ("tokens 500, region eu", "otherwise -> mini"),
    ("tokens 9k", "otherwise -> local"),
    ("tokens 4k, max_output 4k", "otherwise -> mini, local"),
    ("tokens 4001, max_output 4k", "otherwise -> local"),
    ("tokens 101k", "long -> refused"),
    ("tokens 9k, region eu", "otherwise -> refused"),
    ('plan pro, prompt "An OUTAGE since nine"', "urgent_ones -> big, mini"),
    ('plan pro, last "outage"', "urgent_ones -> big, mini"),
    ('plan pro, system "Report data loss"', "urgent_ones -> big, mini"),
    ('plan pro, prompt "outages"', "otherwise"),
    ("code", "pilot -> mini, local"),
    ("tokens 5", "otherwise -> mini, local"),
]


@pytest.mark.parametrize(("given", "expect"), PASSING, ids=[f"{given}: {expect}" for given, expect in PASSING])
def test_passes(given: str, expect: str) -> None:
    found = outcome(given, expect)
    assert (found.status, found.details) == ("passed", ())


FAILING = [  # given, expect, what the details say
    ("tokens 500", "long", ("expected long", "got      otherwise -> mini, local")),
    ("tokens 500", "otherwise -> local", ("expected otherwise -> local",)),
    ("tokens 500", "otherwise -> local, mini", ("got      otherwise -> mini, local",)),
    ("tokens 9k", "otherwise -> mini, local", ("  mini drops out: context: 13000 tokens wanted, 8000 there",)),
    ("region eu", "otherwise -> mini, local", ("  local drops out: forbidden: no EU endpoint",)),
    ("plan pro, images, prompt \"outage\"", "urgent_ones -> big, mini", ("  big drops out: it can't take images",)),
    ("tokens 500", "otherwise -> refused", ("expected otherwise -> refused",)),
    ("tokens 101k", "otherwise", ('got      long -> refused "too long"', "  takes long")),
    ("tokens 9k, region eu", "otherwise -> local", ('got      otherwise -> refused "no model can take this request"',)),
    ("tokens 500", "long", ("  tried long", "  tried urgent_ones", "  tried maybe (shadow)", "  tried pilot", "  takes otherwise")),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expect", "details"), FAILING, ids=[f"{given}: {expect}" for given, expect, _ in FAILING])
def test_fails_and_says_why(given: str, expect: str, details: tuple[str, ...]) -> None:
    found = outcome(given, expect)
    assert found.status == "failed"
    assert [line for line in details if line not in found.details] == []


def test_tried_rules_stand_in_order_and_end_with_the_one_that_takes() -> None:
    found = outcome("code", "otherwise")
    tried = [line.split()[-1] for line in found.details if line.startswith(("  tried", "  takes"))]
    assert tried == ["long", "urgent_ones", "(shadow)", "pilot"]


def test_steps_are_numbered() -> None:
    found = outcome("tokens 500", "otherwise", "then given tokens 101k", "expect otherwise")
    assert found.status == "failed"
    assert "step 2: expected otherwise" in found.details


NOT_RUN = [  # declarations, test, what it would need
    (
        "quota fair { 5 per day by user of big when plan is free then cheap }\n",
        "given plan free repeated 6 times\n  expect otherwise by quota fair",
        "quota fair",
    ),
    (
        "sticky by conversation for 30min { never downgrade }\norder cheap < cheap2\ntier cheap2 = big\n",
        "given tokens 5\n  expect otherwise\n  then given tokens 6\n  expect otherwise",
        "sticky by conversation",
    ),
    (
        'classifier hard : yes | no { ask mini about last 1 messages prompt "hard?" within 300ms on failure no }\n'
        "rule hard_ones { when hard is yes then big }\n",
        "given tokens 5\n  expect otherwise",
        "classifier hard",
    ),
]


@pytest.mark.parametrize(("declarations", "body", "needs"), NOT_RUN, ids=[needs for *_, needs in NOT_RUN])
def test_not_run_says_what_it_would_need(declarations: str, body: str, needs: str) -> None:
    (found,) = outcomes(f'{declarations}test "one" {{\n  {body}\n}}\n')
    assert found.status == "not run"
    assert len(found.details) == 1
    assert f"`{needs}`" in found.details[0]


def test_state_does_not_keep_a_single_request_from_being_tested() -> None:
    quota = "quota fair { 5 per day by user of big when plan is free then cheap }\n"
    (found,) = outcomes(quota + 'test "one" {\n  given plan free\n  expect otherwise\n}\n')
    assert found.status == "passed"


def test_a_classifier_that_is_not_reached_or_is_given_keeps_nothing_from_being_tested() -> None:
    classifier = (
        'classifier hard : yes | no { ask mini about last 1 messages prompt "hard?" within 300ms on failure no }\n'
        "rule hard_ones { when hard is yes then big }\n"
    )
    given = 'test "given" {\n  given hard yes\n  expect hard_ones -> big\n}\n'
    unreached = 'test "unreached" {\n  given tokens 101k\n  expect long -> refused\n}\n'
    assert [found.status for found in outcomes(classifier + given + unreached)] == ["passed", "passed"]


def test_decisions_are_shown_in_the_words_of_expect() -> None:
    assert shown(Decision("r", ("a", "b"))) == "r -> a, b"
    assert shown(Decision("r", (), refused="no")) == 'r -> refused "no"'
    assert Expect("r", None).chain is None


@pytest.mark.skipif(not (SHARED / "design" / "policies").exists(), reason="needs ../shared/design/policies")
@pytest.mark.parametrize("name", ["support", "coding"])
def test_designed_policies_fail_no_test(name: str) -> None:
    found = list(Suite(policy_of(SHARED / "design" / "policies" / f"{name}.route")).run())
    assert found
    assert [(each.test.name, each.details) for each in found if each.status == "failed"] == []
    assert all(each.details for each in found if each.status == "not run")
