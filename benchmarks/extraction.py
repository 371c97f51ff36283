"""Extraction: exact token counts against tiktoken, one-pass text scans against `re`, and whole trace rows to columns.

python benchmarks/extraction.py [--smoke]
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import get_args

import corpus
import pyarrow as pa
from harness import Report, cpu, median, ratio, rounds, run

from policyroute.language.policy import TextSet
from policyroute.signals import tokens
from policyroute.signals.columns import Plan, extract
from policyroute.signals.text import Scanner

PATTERNS = (
    TextSet("stack_trace", pattern=r"(?i)traceback \(most recent"),
    TextSet("number", pattern=r"\b\d{3}-\d{2}-\d{4}\b"),
    TextSet("fenced", pattern=r"```(?:python|js)"),
)
MEAN = 800  # characters of a prompt
SETS = 5  # word sets that the keywords are spread over


def _all(work: Callable[[str], object], texts: Sequence[str]) -> None:
    for text in texts:
        work(text)


def _megabytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


# -- tokens ----------------------------------------------------------------------------------------------------------


def token_counts(report: Report, smoke: bool) -> None:
    """Each counter on texts that it has not seen: every round has prompts of its own."""
    each, count = (800, 4) if smoke else (1_200, 8)
    prompts = corpus.prompts(each * count, MEAN, seed=21)
    named: dict[str, Callable[[str], int]] = {"tiktoken": tokens.choose("o200k_base", "tiktoken").count}
    absent: dict[str, str] = {}
    for name in get_args(tokens.Name):
        try:
            named.setdefault(name, tokens.choose("o200k_base", name).count)
        except tokens.TokenizerError as error:
            absent[name] = str(error)
    speeds: dict[str, list[float]] = {name: [] for name in named}
    wrong = dict.fromkeys(named, 0)
    for start in range(0, len(prompts), each):
        part = prompts[start : start + each]
        exact = [named["tiktoken"](text) for text in part[:200]]
        for name, counted in named.items():
            speeds[name].append(cpu(partial(_all, counted, part)) / _megabytes(part))
            wrong[name] += sum(counted(text) != wanted for text, wanted in zip(part, exact, strict=False))
    report.facts["wrong counts"] = wrong
    for name, claim, least in (("gigatoken", 6.0, 80.0), ("quicktok", None, None)):
        label = f"token counts, {name} ({'extra `fast`' if name == 'gigatoken' else 'without extras'})"
        if name in absent:
            report.add(label, note=absent[name], claim=claim)
            continue
        seconds, theirs = speeds[name][1:], speeds["tiktoken"][1:]
        report.add(label, 1 / median(seconds), "MB/s a core", claim=least)
        report.add(f"tiktoken, against {name}", 1 / median(theirs), "MB/s a core", ratio=ratio(theirs, seconds), claim=claim)


# -- scans -----------------------------------------------------------------------------------------------------------


def _alternation(phrases: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<!\w)(?:{'|'.join(map(re.escape, phrases))})(?!\w)")


def _mask(compiled: Sequence[re.Pattern[str]], text: str) -> int:
    return sum(1 << place for place, one in enumerate(compiled) if one.search(text))


def scans(report: Report, smoke: bool) -> None:
    prompts = corpus.prompts(600 if smoke else 6_000, MEAN, seed=22)
    for keywords, claim, theirs_count in ((50, 25, 100 if smoke else 400), (500, 120, 30 if smoke else 100)):
        words = corpus.keywords(keywords)
        sets = [TextSet(f"set_{place}", tuple(words[place::SETS])) for place in range(SETS)]
        scanner = Scanner([*sets, *PATTERNS])
        patterns = [re.compile(each.pattern) for each in PATTERNS]
        by_set = [*(_alternation(each.phrases) for each in sets), *patterns]
        at_once = [_alternation(words), *patterns]
        some = prompts[:theirs_count]
        differ = sum(scanner.mask(text) != _mask(by_set, text) for text in some)
        report.facts[f"{keywords} keywords"] = {
            "prompts that differ": differ, "of": len(some), "share of prompts with a hit": sum(map(bool, map(scanner.mask, prompts))) / len(prompts),
        }  # fmt: skip
        works = {
            "ours": partial(_all, scanner.mask, prompts),
            "at once": partial(_all, partial(_mask, at_once), some), "by set": partial(_all, partial(_mask, by_set), some),
        }  # fmt: skip
        taken = rounds(works, 3 if smoke else 7)
        per = {
            name: [seconds / _megabytes(prompts if name == "ours" else some) for seconds in each] for name, each in taken.items()
        }
        ours = per["ours"]
        what = f"{keywords} keywords in {SETS} sets and {len(PATTERNS)} patterns"
        report.add(f"text scan, {what}", 1 / median(ours), "MB/s a core", claim=250)
        for name, label, goal in (
            ("at once", f"`re`, {keywords} keywords as one alternation, which can't say which set", claim),
            ("by set", f"`re`, {keywords} keywords, one alternation per set, the same answer as ours", None),
        ):  # fmt: skip
            report.add(label, 1 / median(per[name]), "MB/s a core", ratio=ratio(per[name], ours), claim=goal)


# -- rows ------------------------------------------------------------------------------------------------------------


def rows(report: Report, smoke: bool) -> None:
    """Rows with a system prompt and three messages: tokens, four other signals and eight scans."""
    count = 500 if smoke else 4_000
    texts = corpus.prompts(count * 3, 400, seed=23)
    messages = [
        json.dumps([
            {"role": "system", "content": "You are the support desk of a shop. Be brief and kind."},
            {"role": "user", "content": one}, {"role": "assistant", "content": two}, {"role": "user", "content": three},
        ])
        for one, two, three in zip(texts[::3], texts[1::3], texts[2::3], strict=True)
    ]  # fmt: skip
    words = corpus.keywords(50)
    sets = [*(TextSet(f"set_{place}", tuple(words[place::SETS])) for place in range(SETS)), *PATTERNS]
    plan = Plan(("tokens", "last_tokens", "turns", "steps", "code"), tuple(("prompt", each) for each in sets))
    batches = [
        pa.record_batch({"row": pa.array(range(start, start + count // 4)), "messages": messages[start : start + count // 4]})
        for start in range(0, count, count // 4)
    ]
    tokens.counter()
    extract(batches[0], plan)
    seconds = [cpu(partial(extract, batch, plan)) for batch in batches[1:]]
    per_row = median(seconds) / (count // 4)
    report.facts["rows"] = {"mean bytes of messages": sum(map(len, messages)) // count, "counter": tokens.counter().name}
    report.add("trace rows to columns: 5 signals and 8 scans of 4 messages", 1 / per_row, "rows/s a core")


def make(smoke: bool) -> Report:
    report = Report("extraction", "Extraction", ["policyroute", "tiktoken", "quicktok-v1", "gigatoken", "google-re2", "pyarrow"])
    report.facts["gigatoken installed"] = find_spec("gigatoken") is not None
    token_counts(report, smoke)
    scans(report, smoke)
    rows(report, smoke)
    return report


if __name__ == "__main__":
    run(make)
