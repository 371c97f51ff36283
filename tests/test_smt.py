"""The solver's reading agrees with the reference, and what it proves survives random requests."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.language import check_text
from policyroute.language.limits import blocked
from policyroute.language.policy import BoolType, EnumType, IntType, Policy, Split, Value
from policyroute.language.reference import decide, evaluate
from policyroute.signals.implications import implications
from policyroute.signals.members import other
from tests.strategies import DECLARED, policies, values

z3 = pytest.importorskip("z3")
from policyroute.analysis.disagreement import compare  # noqa: E402
from policyroute.analysis.intervals import Intervals  # noqa: E402
from policyroute.analysis.remote import Remote  # noqa: E402
from policyroute.analysis.smt import Proofs  # noqa: E402
from policyroute.backends.smt import Terms  # noqa: E402

Draw = st.DataObject
MODELS = 'model a { id "a" in $1 out $1 }\n'


def fixed(terms: Terms, request: dict[str, Value]) -> list[Any]:
    """The request as constraints on the variables that have been made."""
    found = []
    for name, one in terms.policy.signals.items():
        if not isinstance(one.type, BoolType | IntType | EnumType):
            continue
        variable, value = terms.variable(name), request[name]
        if isinstance(one.type, EnumType):
            members = terms.members(name)
            value = members[str(value)] if value in members else members[other(one)]
        found.append(variable == value)
    return found


@settings(max_examples=150, deadline=None)
@given(policy=policies, data=st.data())
def test_terms_mean_what_the_reference_says(policy: Policy, data: Draw) -> None:
    """Every condition and limit has, for every request, the same value for z3 and for the reference."""
    request = data.draw(values(policy))
    terms = Terms(policy)
    conditions = [*(rule.condition for rule in policy.rules), *(blocked(policy, model) for model in policy.models)]
    written = [terms.condition(condition) for condition in conditions]
    solver = z3.Solver(ctx=terms.context)
    solver.add(*fixed(terms, request))
    assert solver.check() == z3.sat  # each value lies within its bounds
    model = solver.model()
    for condition, term in zip(conditions, written, strict=True):
        assert z3.is_true(model.eval(term, model_completion=True)) == evaluate(condition, request)


@settings(max_examples=100, deadline=None)
@given(policy=policies, data=st.data())
def test_answers_are_true(policy: Policy, data: Draw) -> None:
    """ "some" comes with a request that shows it, "none" is refuted by no request, and a core suffices."""
    proofs = Proofs(policy)
    number = data.draw(st.sampled_from(range(len(policy.rules))))
    passing = [other for other in range(number) if not policy.rules[other].shadow]
    wanted = policy.rules[number].condition
    answer = proofs.ask(wanted, passing)
    assert answer.status != "unknown"
    if answer.status == "some":
        assert evaluate(wanted, answer.values) and proofs.possible(answer.values)
        assert not any(evaluate(policy.rules[other].condition, answer.values) for other in passing)
        return
    assert set(answer.core) <= set(passing) and proofs.ask(wanted, answer.core).status == "none"
    assert all(proofs.ask(wanted, [o for o in answer.core if o != left]).status == "some" for left in answer.core)
    for _ in range(20):
        request = data.draw(values(policy))
        if all(evaluate(axiom, request) for axiom in implications(policy)):
            assert not evaluate(wanted, request) or any(evaluate(policy.rules[other].condition, request) for other in passing)


def changed(policy: Policy, data: Draw) -> Policy:
    """The policy with one thing changed, which may or may not change a decision."""
    rules = list(policy.rules)
    number = data.draw(st.sampled_from(range(len(rules))))
    match data.draw(st.sampled_from(["swap", "drop", "target", "forbid", "explore"])):
        case "swap" if number + 2 < len(rules):
            rules[number], rules[number + 1] = rules[number + 1], rules[number]
        case "drop" if number + 1 < len(rules):
            del rules[number]
        case "target":
            rules[number] = replace(rules[number], target=data.draw(st.sampled_from([rule.target for rule in rules])))
        case "forbid":
            return replace(policy, forbids=policy.forbids[1:])
        case "explore":
            return replace(policy, explore=None)
    return replace(policy, rules=tuple(rules))


@settings(max_examples=60, deadline=None)
@given(policy=policies, data=st.data())
def test_a_comparison_is_true(policy: Policy, data: Draw) -> None:
    """Each difference is one by the reference; where none is left, no request is sent two ways."""
    new = changed(policy, data)
    found = compare(policy, new)
    for difference in found.differences:
        before, after = decide(policy, difference.values), decide(new, difference.after)
        assert (before, after) == (difference.before_decision, difference.after_decision)
        assert (before.chain, before.refused, before.explored) != (after.chain, after.refused, after.explored)
        assert (before.rule, after.rule) == (policy.rules[difference.old].name, new.rules[difference.new].name)
    pairs = {(policy.rules[one.old].name, new.rules[one.new].name) for one in found.differences}
    for _ in range(30):
        request = data.draw(values(policy))
        if not all(evaluate(axiom, request) for axiom in implications(policy)):
            continue
        before, after = decide(policy, request), decide(new, request)
        if found.complete and (before.chain, before.refused) != (after.chain, after.refused):
            assert (before.rule, after.rule) in pairs


@settings(max_examples=60, deadline=None)
@given(policy=policies)
def test_a_policy_is_like_itself(policy: Policy) -> None:
    """That nothing differs is proved, also where the rules have other names (a split's name is a part of its draw)."""
    found = compare(policy, policy, named=True)
    assert not found.differences and found.complete
    rules = tuple(rule if isinstance(rule.target, Split) else replace(rule, name=f"other_{rule.name}") for rule in policy.rules)
    found = compare(policy, replace(policy, rules=rules))
    assert not found.differences and found.complete


@settings(max_examples=200, deadline=None)
@given(policy=policies, data=st.data())
def test_both_solvers_agree(policy: Policy, data: Draw) -> None:
    """Without z3 fewer questions are answered, and none otherwise."""
    proofs, intervals = Proofs(policy), Intervals(policy)
    number = data.draw(st.sampled_from(range(len(policy.rules))))
    passing = [other for other in range(number) if not policy.rules[other].shadow]
    wanted = policy.rules[number].condition
    with_z3, without = proofs.ask(wanted, passing), intervals.ask(wanted, passing)
    assert without.status in (with_z3.status, "unknown")
    if without.status == "some":
        assert evaluate(wanted, without.values) and proofs.possible(without.values)
        assert not any(evaluate(policy.rules[other].condition, without.values) for other in passing)
    takers = [other for other, rule in enumerate(policy.rules) if not rule.shadow]
    blocks = blocked(policy, data.draw(st.sampled_from(list(policy.models))))
    assert intervals.ask_taken(blocks, takers).status in (proofs.ask_taken(blocks, takers).status, "unknown")


def test_a_process_that_hangs_or_dies_is_no_proof() -> None:
    """A solver that doesn't answer is killed when its time is over, one that died is started again; both answers are "unknown"."""
    policy = check_text(DECLARED + MODELS + "rule a { when tokens > 5 then a }\notherwise { then a }\n").policy
    with Remote(policy, 30) as remote:
        assert remote.ask(policy.rules[0].condition).status == "some"
        first = remote._process
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        assert remote.ask(policy.rules[0].condition).status == "unknown"
        assert remote.ask(policy.rules[0].condition).status == "some"
    with Remote(policy, 1.5) as remote:
        assert remote.ask(policy.rules[0].condition).status == "some"
        assert remote._process is not None
        stopped = remote._process
        os.kill(stopped.pid, signal.SIGSTOP)
        begun = time.monotonic()
        assert remote.ask(policy.rules[1].condition).status == "unknown"
        assert time.monotonic() - begun < 10 and stopped.poll() is not None and remote._process is None
        assert remote.ask(policy.rules[0].condition).status == "unknown"  # its time is over
    late = Intervals(policy, 0.0)
    assert late.ask(policy.rules[0].condition).status == late.ask_taken(policy.rules[0].condition, [0]).status == "unknown"
