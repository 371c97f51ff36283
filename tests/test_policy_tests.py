"""`test` blocks: what passes, what a failure explains, and what is not run because this version can't compute it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policyroute.language import check_text
from policyroute.language.decision import Decision
from policyroute.language.policy import Apply, Expect, Given, Policy, Read, Value
from policyroute.signals.facts import SEPARATOR, Facts
from policyroute.signals.given import extracted
from policyroute.signals.values import Reader
from policyroute.testing.failures import under
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


def outcomes(text: str, otherwise: str = "otherwise { then cheap }\n", folder: Path = Path()) -> list[Outcome]:
    checked = check_text(DECLARED + text + otherwise, folder=folder)
    assert not checked.failed, checked.diagnostics
    return list(Suite(checked.policy, folder).run())


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
    ("tokens 500", "long", ("      tokens > 100k", "      500")),
    ("plan pro", "urgent_ones", ("      prompt has urgent", "      false", "  takes maybe (shadow)")),
    ("code", "otherwise", ("      arm 1 of 2, as the first, for want of user", "  otherwise stands below pilot, and would have taken it")),
    ('code, user "u1"', "otherwise", ('      arm 1 of 2, by the hash of user "u1"',)),
    ("code", "long", ()),
    ("tokens 101k", "pilot", ("  pilot stands below long, and its condition does not hold:", "      code", "      false")),
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


def test_values_stand_under_their_signals() -> None:
    checked = check_text(
        'edition 1\npolicy p\nwords w = "a"\nmodel m { id "m" }\n'
        "rule r { when tokens + max_output > 9k or last not has w and tool is none or tokens == 3 then m }\notherwise { then m }\n"
    )
    assert not checked.failed
    values = Suite(checked.policy).values(Given((("tokens", 80), ("last", "a"), ("max_output", 4_000))))
    assert under(checked.policy.rules[0].condition, values) == [
        "tokens + max_output > 9k or last not has w and tool is none or tokens == 3",
        "80       4000               true               none",
    ]
    assert under(Apply("<", (Read("tokens"), Read("a"))), {"tokens": 123_456_789, "a": 1}) == [
        "tokens < a",
        "123456789",
        "         1",
    ]


def test_steps_are_numbered() -> None:
    found = outcome("tokens 500", "otherwise", "then given tokens 101k", "expect otherwise")
    assert found.status == "failed"
    assert "step 2: expected otherwise" in found.details


def test_not_run_says_what_it_would_need() -> None:
    classifier = (
        'classifier hard : yes | no { ask mini about last 1 messages prompt "hard?" within 300ms on failure no }\n'
        "rule hard_ones { when hard is yes then big }\n"
    )
    (found,) = outcomes(f'{classifier}test "one" {{\n  given tokens 5\n  expect otherwise\n}}\n')
    assert found.status == "not run"
    assert len(found.details) == 1
    assert "`classifier hard`" in found.details[0]


def test_an_escalation_can_not_be_tested_without_an_answer() -> None:
    text = "tier weak = mini\ntier strong_ones = big\norder weak < strong_ones\nescalate weak { when answer is empty then up }\n"
    (found,) = outcomes(text + 'test "one" {\n  given tokens 5\n  expect otherwise by escalate weak\n}\n')
    assert (found.status, found.details) == ("not run", ("it expects an escalation, and a test has no answer that could be weak",))


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
def test_designed_policies_pass_their_tests(name: str) -> None:
    found = list(Suite(policy_of(SHARED / "design" / "policies" / f"{name}.route")).run())
    assert found
    assert [(each.test.name, each.details) for each in found if each.status != "passed"] == []


# -- what is given -------------------------------------------------------------------------------------------------------

READING = """edition 1
policy reading
timezone "Europe/Berlin"
signal plan  : free | pro = free  from header "x-user-plan", metadata "plan"
signal seats : int 0..9 = 1       from metadata "seats"
words   urgent = "outage", "data loss"
words   down   = "outage", "data loss", "down"
pattern digits = /[0-9]{4}/
model mini { id "gpt-4o-mini"  in $1 out $1 }
rule read {
  when prompt has urgent and prompt has down and prompt has digits and last has urgent and last has digits and system has urgent
    and plan is pro and seats > 1 and tokens > 1 and last_tokens > 1 and turns > 1 and steps > 1 and tools > 1 and tool_failed
    and tool is search and images and code and json and stream and hour > 1 and weekday is sun and escalated and requested is mini
  then mini
}
"""
DEFAULTS: dict[str, Value] = {
    "plan": "free",
    "seats": 1,
    "tokens": 0,
    "last_tokens": 0,
    "turns": 1,
    "steps": 0,
    "tools": 0,
    "tool": "none",
}
USER = {"role": "user", "content": "An outage in 2026?\n```\nx = 1\n```"}
TALK = [
    {"role": "user", "content": "Look it up"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "Error: data loss"},
]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "Report data loss"}, USER, *TALK],
        "tools": [{"type": "function", "function": {"name": "search"}}],
        "stream": True,
        "metadata": {"plan": "pro", "seats": 40},
        "response_format": {"type": "json_object"},
        "max_tokens": 77,
    },
    "responses": {
        "model": "openai/gpt-4o-mini",
        "instructions": "Report data loss",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "An outage"}, {"type": "input_image", "image_url": "https://x.test/a.png"}]},
            {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "fine"},
        ],
    },
    "messages": {
        "model": "claude",
        "system": "Report data loss",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "An outage in 2026"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "search", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": True}]},
        ],
    },
}  # fmt: skip


def given(pairs: str, folder: Path = Path()) -> tuple[Policy, dict[str, Value]]:
    """All signal values of a request that a test gives; the test passes in all readings, whatever the policy decides."""
    test = f'test "t" {{ given {pairs} expect otherwise }}\n'
    checked = check_text(f"{READING}otherwise {{ then mini }}\n{test}", folder=folder)
    assert not checked.failed, checked.diagnostics
    suite = Suite(checked.policy, folder)
    (outcome,) = suite.run()
    assert outcome.status == "passed", outcome.details
    return checked.policy, suite.values(checked.policy.tests[0].steps[0][0])


def live(policy: Policy, body: object, headers: dict[str, str], at: datetime | None) -> dict[str, Value]:
    """The values that a server gives the policy for a request."""
    made = Reader(policy)(Facts.of_body(body, headers, at, policy.timezone))
    return {name: getattr(made, signal.identifier) for name, signal in policy.signals.items()}


GIVEN: list[tuple[str, dict[str, Value]]] = [
    ("tokens 5", {**DEFAULTS, "tokens": 5, "prompt": "", "code": False, "requested": ""}),
    (
        'last "outage 2026"',
        {"prompt": "outage 2026", "last": "outage 2026", "turns": 1, "tokens": 12, "last_tokens": 5, "tools": 0},
    ),
    (
        'prompt "outage"',
        {"last": "outage", "prompt has urgent": True, "prompt has down": True, "last has urgent": True, "turns": 1},
    ),
    ('prompt "outage", last "thanks"', {"last has urgent": False, "prompt has urgent": True, "turns": 2, "last": "thanks"}),
    ('prompt "same", last "same"', {"turns": 1, "prompt": "same"}),
    ('system "data loss"', {"system has urgent": True, "prompt has urgent": True, "last": "", "turns": 0}),
    ('system "s", prompt "p"', {"prompt": f"s{SEPARATOR}p", "system": "s", "last": "p"}),
    ('last "```", tokens 7, turns 3', {"code": True, "tokens": 7, "turns": 3}),
    ('last "```", code false', {"code": False}),
    (
        "prompt has urgent",
        {"prompt has urgent": True, "prompt has down": True, "prompt has digits": False, "last has urgent": False},
    ),
    ("last has urgent", {"last has urgent": True, "prompt has urgent": True, "prompt has down": True, "system has urgent": False}),
    ("last has urgent, prompt not has down", {"last has urgent": True, "prompt has urgent": True, "prompt has down": False}),
    ("last has digits", {"last has digits": True, "prompt has digits": False}),  # a pattern may see the ends of a text
    ("last has down", {"prompt has down": True, "prompt has urgent": False}),  # no condition asks whether `last` has it
    ('prompt "outage", prompt not has urgent', {"prompt has urgent": False, "prompt has down": True, "last has urgent": True}),
    ('header "X-User-Plan" "pro", header "x-escalate" "1"', {"plan": "pro", "escalated": True, "tokens": 0}),
    ('metadata "plan" "pro", metadata "seats" 40', {"plan": "pro", "seats": 9}),
    ('header "x-user-plan" "gold", metadata "seats" "4"', {"plan": "free", "seats": 4}),
    ('header "x-user-plan" "pro", plan free', {"plan": "free"}),
    ('metadata "user_id" "u1", metadata "session_id" "s1"', {"user": "u1", "conversation": "s1"}),
    ('time "2026-11-22T23:30:00Z"', {"hour": 0, "weekday": "mon"}),
    ('time "2026-11-22T23:30:00+01:00"', {"hour": 23, "weekday": "sun"}),
    ('time "2026-07-05T12:00:00", hour 3', {"hour": 3, "weekday": "sun"}),
    ('requested "gpt-9"', {"requested": "*"}),
    ("requested mini", {"requested": "mini"}),
]


@pytest.mark.parametrize(("pairs", "wanted"), GIVEN, ids=[pairs for pairs, _ in GIVEN])
def test_what_is_given_becomes_values(pairs: str, wanted: dict[str, Value]) -> None:
    _, values = given(pairs)
    assert {name: values[name] for name in wanted} == wanted


@pytest.mark.parametrize("api", BODIES)
def test_a_recorded_request_is_read_as_a_live_one(api: str, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text(json.dumps(BODIES[api]), "utf-8")
    policy, values = given(
        'request "body.json", header "x-user-plan" "pro", header "X-Escalate" "yes", time "2026-11-22T23:30:00Z"', tmp_path
    )
    wanted = live(policy, BODIES[api], {"x-user-plan": "pro", "x-escalate": "yes"}, datetime(2026, 11, 22, 23, 30, tzinfo=UTC))
    assert values == wanted
    assert values["tool"] == "search" and values["prompt has urgent"] and values["escalated"] and values["plan"] == "pro"


def test_other_pairs_have_the_last_word_over_a_recorded_request(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text(json.dumps(BODIES["chat"]), "utf-8")
    policy, values = given(
        'request "body.json", metadata "plan" "free", metadata "team" "t1", tokens 5, last "no code", prompt not has urgent, tool grep',
        tmp_path,
    )
    plain = live(policy, BODIES["chat"], {}, None)
    changed = {name for name in values if values[name] != plain[name]}
    assert changed == {"plan", "team", "tokens", "last", "prompt has urgent", "tool"}
    assert (values["team"], values["seats"], values["turns"]) == ("t1", 9, plain["turns"])


def test_texts_come_after_the_history(tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(json.dumps(TALK), "utf-8")
    (tmp_path / "body.json").write_text(json.dumps({"model": "x", "stream": True, "messages": TALK}), "utf-8")
    _, values = given('history "talk.json"', tmp_path)
    wanted = {"tool": "search", "tool_failed": True, "steps": 1, "turns": 1, "last": "Look it up", "prompt has urgent": True}
    assert {name: values[name] for name in wanted} == wanted
    assert given('history "body.json"', tmp_path)[1] == values
    _, values = given('history "talk.json", last "an outage", system "s"', tmp_path)
    wanted = {"tool": "none", "tool_failed": True, "steps": 0, "turns": 2, "last": "an outage", "stream": False}
    assert {name: values[name] for name in wanted} == wanted
    assert str(values["prompt"]).split(SEPARATOR) == ["s", "Look it up", "", "Error: data loss", "an outage"]


def test_files_are_found_beside_the_policy_and_steps_are_requests_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "incident.json").write_text(json.dumps({"messages": [{"role": "user", "content": "outage"}]}), "utf-8")
    found = outcomes(
        'test "t" {\n  given request "cases/incident.json", plan pro\n  expect urgent_ones -> big, mini\n'
        "  then given plan pro repeated 3 times\n  expect maybe_not\n}\nrule maybe_not { when plan is pro then local }\n",
        folder=tmp_path,
    )
    assert [(each.status, each.details) for each in found] == [("passed", ())]
    assert [shown(decision) for decision in found[0].decisions] == ["urgent_ones -> big, mini", "maybe_not -> local"]


def test_every_reading_takes_what_a_body_may_hold(tmp_path: Path) -> None:
    """NUL and half a pair of surrogates are in no policy, and in a request's key and tool."""
    for number, user in enumerate(("a\0b", "\ud800", "it's", "")):
        (tmp_path / f"{number}.json").write_text(json.dumps({"messages": [USER], "user": user}), "utf-8")
    tests = "".join(f'test "{n}" {{ given request "{n}.json", code expect pilot }}\n' for n in range(4))
    assert [(each.status, each.details) for each in outcomes(tests, folder=tmp_path)] == [("passed", ())] * 4


def test_extraction_of_texts_alone() -> None:
    assert extracted({}) == {}
    found = extracted({"last": "```", "system": "s"}, TALK)
    assert (found["turns"], found["code"], found["system"], found["tool_failed"]) == (2, True, "s", True)
    assert set(found) == {
        "tokens", "last_tokens", "turns", "steps", "tool", "tool_failed", "images", "code", "prompt", "last", "system", "conversation",
    }  # fmt: skip


def test_a_reading_that_decides_otherwise_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check_text(DECLARED + 'test "t" { given tokens 500 expect otherwise }\notherwise { then cheap }\n')
    monkeypatch.setattr(Suite, "_in_sql", lambda self, requests: [(0, -1, "")] * len(requests))
    (found,) = Suite(checked.policy).run()
    assert (found.status, found.details) == ("failed", ("SQL decides otherwise, which is a fault of policyroute: long -> refused",))


def test_tests_are_chosen() -> None:
    checked = check_text(
        DECLARED
        + 'test "a" { given tokens 500 expect long }\ntest "b" { given tokens 5 expect otherwise }\notherwise { then cheap }\n'
    )
    suite = Suite(checked.policy)
    assert [each.test.name for each in suite.run(checked.policy.tests[1:])] == ["b"]
    assert [each.status for each in suite.run()] == ["failed", "passed"]
