"""Proofs: what `check` and `diff` ask of z3 about 20, 100 and 1,000 rules, by kind of finding.

python benchmarks/analysis.py [--smoke]

The policies are drawn: conjunctions of thresholds, members and word sets, eight models with contexts and abilities, ten guarantees on
models and ten on cost. Time is CPU time in one process (`check` runs z3 in a process of its own).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from harness import Report, median, run

from policyroute.analysis import chains, rules
from policyroute.analysis.disagreement import compare
from policyroute.analysis.guarantees import verdicts
from policyroute.analysis.smt import Proofs
from policyroute.language import Policy, check_text
from policyroute.prices.catalog import load_catalog

NOW = datetime(2026, 11, 25, tzinfo=UTC)
SIZES = ((20, 15), (100, 40), (1_000, 150))
MODELS = 8
TARGETS = ("cheap", "standard", "premium", "m7", "m1 fallback m4")


def policy(count: int, sets: int, seed: int = 0) -> str:
    """A policy with `count` rules over `sets` sets of words. Most rules look for words, so that most are reached by something."""
    draw = random.Random(seed)
    lines = [
        "edition 1", "policy drawn", 'signal plan : free | pro | enterprise = free  from header "x-plan"',
        'signal region : us | eu | apac = us  from header "x-region"', "signal max_output : int 1..16k = 1k",
    ]  # fmt: skip
    lines += [f'words w{number} = "phrase {number} alpha", "beta {number}"' for number in range(sets)]
    lines += [
        f'model m{n} {{ id "m{n}" in ${n + 1} out ${2 * n + 2} context {128 << (n % 3)}k can tools, json }}' for n in range(7)
    ]
    lines += ['model m7 { id "m7" in $9 out $20 context 1M can tools, images, json }']
    lines += ["tier cheap = m0, m1", "tier standard = m2, m3", "tier premium = m5, m7", "order cheap < standard < premium"]
    lines += ["forbid m0 when region is eu", 'rule too_long { when tokens + max_output > 128k or images then refuse "too long" }']
    for number in range(count):
        parts = [
            f"{draw.choice(['prompt', 'last'])} has w{draw.randrange(sets)}",
            *(_atom(draw, sets) for _ in range(draw.randrange(3))),
        ]
        draw.shuffle(parts)
        lines.append(f"rule r{number} {{ when {' and '.join(parts)} then {draw.choice(TARGETS)} }}")
    lines += ["otherwise { then cheap }"]
    lines += [f"guarantee never_{n} : never m{n % 7} when images and {_atom(draw, sets)}" for n in range(10)]
    lines += [f"guarantee cost_{n} : never cost > ${n + 1}.00 when tokens <= {n + 1}k" for n in range(10)]
    return "\n".join(lines) + "\n"


def _atom(draw: random.Random, sets: int) -> str:
    return draw.choice([
        f"tokens {draw.choice('<>')} {draw.randrange(100, 60_000)}", f"plan is {draw.choice(('free', 'pro', 'enterprise'))}",
        f"region is {draw.choice(('us', 'eu', 'apac'))}", f"steps >= {draw.randrange(1, 12)}", draw.choice(("code", "tool_failed", "tools > 0")),
        f"{draw.choice(('prompt', 'last'))} not has w{draw.randrange(sets)}",
    ])  # fmt: skip


def edited(policy: Policy, seed: int = 1) -> Policy:
    """The policy after five edits: each rule drawn (of the first sixty) changes its place with the next one, or takes another's target."""
    draw, listed = random.Random(seed), list(policy.rules)
    for number in draw.sample(range(1, min(len(listed), 60) - 2), 5):
        if draw.random() < 0.5:
            listed[number], listed[number + 1] = listed[number + 1], listed[number]
        else:
            listed[number] = replace(listed[number], target=listed[-1].target)
    return replace(policy, rules=tuple(listed))


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median CPU seconds, and the last result."""
    taken, found = [], None
    for _ in range(rounds):
        begun = time.process_time()
        found = work()
        taken.append(time.process_time() - begun)
    return median(taken), found


def kinds(policy: Policy) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is asked, in the order of `check`; the questions share one solver, as there."""
    proofs, prices = Proofs(policy), load_catalog().for_policy(policy)
    yield "rules: contradictions, dead and redundant ones", lambda: list(rules.findings(proofs))
    yield "chains: dead ends, useless fallbacks", lambda: list(chains.findings(proofs))
    yield "20 guarantees", lambda: list(verdicts(proofs, prices, NOW))
    yield "diff after five edits", lambda: compare(policy, edited(policy))
    yield "proof that a policy is like itself", lambda: compare(policy, policy)


def make(smoke: bool) -> Report:
    report = Report("analysis", "Proofs", ["policyroute", "z3-solver"])
    for count, sets in SIZES[:2] if smoke else SIZES:
        checked = check_text(policy(count, sets))
        assert not checked.failed, checked.diagnostics
        total = 0.0
        for kind, work in kinds(checked.policy):
            seconds, found = timed(work, 1 if "rules" in kind else 3)
            total += seconds if "diff" not in kind and "like itself" not in kind else 0.0
            number = len(found.differences) if hasattr(found, "differences") else len(found)
            report.add(f"{count:,} rules, {sets} word sets, {kind} ({number})", seconds * 1e3, "ms")
        report.add(
            f"`check` of {count:,} rules, {sets} word sets, all proofs",
            total,
            "s",
            claim=10 if count == 1_000 else None,
            at_most=True,
        )
    return report


if __name__ == "__main__":
    run(make)
