"""The language: 1,000 rules parsed and checked, 20 and 1,000 rules compiled to a Python function.

python benchmarks/language.py [--smoke]
"""

from __future__ import annotations

from functools import partial

import rules
from harness import Report, median, rounds, run

from policyroute.backends.live import compile_policy
from policyroute.language import check_text
from policyroute.language.parser import parse
from policyroute.language.source import Source


def policy(count: int) -> str:
    """A policy with `count` rules: the 20 of `rules.STRUCTURED` with other thresholds, and their order kept."""
    listed = [
        tuple(
            (signal, sign, value + 7 * (place // 20) if sign in ("<", "<=", ">", ">=") else value) for signal, sign, value in rule
        )
        for place, rule in ((place, rules.STRUCTURED[place % 20]) for place in range(count))
    ]
    return rules.route(listed)


def make(smoke: bool) -> Report:
    report = Report("language", "Language", ["policyroute", "lark"])
    texts = {count: policy(count) for count in (20, 1_000)}
    checked = {count: check_text(text) for count, text in texts.items()}
    assert not any(each.failed for each in checked.values())
    report.facts |= {"characters of 1,000 rules": len(texts[1_000])}
    works = {f"check {count}": partial(check_text, text) for count, text in texts.items()}
    works["parse 1000"] = partial(parse, Source("policy.route", texts[1_000]))
    works |= {f"compile {count}": partial(compile_policy, each.policy) for count, each in checked.items()}
    taken = {name: median(seconds) * 1e3 for name, seconds in rounds(works, 3 if smoke else 9).items()}
    report.add("parse and check 1,000 rules", taken["check 1000"], "ms", claim=200, at_most=True)
    report.add("of which the parser", taken["parse 1000"], "ms")
    report.add("parse and check 20 rules", taken["check 20"], "ms")
    report.add("compile 1,000 rules to a Python function", taken["compile 1000"], "ms")
    report.add("compile 20 rules", taken["compile 20"], "ms")
    return report


if __name__ == "__main__":
    run(make)
