"""Whatever the text: `check_text` gives a policy and diagnostics, in time, and never an exception."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.backends.live import compile_policy
from policyroute.backends.sql import Query
from policyroute.language import check_text
from policyroute.language.load import Checked
from policyroute.language.parser import grammar
from policyroute.language.reference import decide

BEGIN = 'edition 1\npolicy p\nmodel mini { id "x" }\n'
END = "\notherwise { then mini }\n"

SAMPLE = """edition 1
policy sample "A bit of everything"
timezone "Europe/Berlin"
signal plan    : free | pro = free      from header "x-user-plan", metadata "plan"
signal feature : (search | draft)?      from metadata "feature"
signal max_output : int 1..64k = 1k
words urgent = "outage", "data loss"
pattern stack_trace = /(?i)traceback|^\\s+at .+\\(.+:\\d+\\)/
let busy = tool in (read_file, grep) and steps >= 2
tunable short : int 50..2k = 500
model mini  { provider openai  id "gpt-5-mini"  in $0.15  out $0.60  context 128k  can tools, json }
model large { id "claude" in $5 out $25 cached $0.50 from 2026-01-01 in $6 out $30 }
tier cheap = mini
tier best  = large, mini
order cheap < best
classifier level : easy | hard { ask mini about last 3 messages prompt "Easy?" within 300ms on failure hard }
forbid large when plan is free and not escalated because "unit economics"
rule too_long "Stop" { owner "us" expires 2027-03-31 when tokens + max_output > 380k then refuse "Too long." }
rule hard { when level is hard or (prompt has urgent and plan in (pro)) then large fallback cheap, requested }
rule pilot { when busy and last_tokens < short then split by user { 90% cheap, 10% best } }
shadow rule maybe { when 2 * tokens - last_tokens > 3k then best }
otherwise { then cheap }
explore 1% by user
sticky by conversation for 30min { never downgrade }
quota fair { 100 per day by user of best when plan is pro then cheap }
budget cap { $50 per day by team then cheap }
on failure { retry 1 on 429, timeout then next within 30s last answer "Busy." }
on stream failure { before 20% restart otherwise finish }
escalate cheap { when answer has urgent or answer is not json then up }
guarantee g : never large when plan is free and not escalated
guarantee c : never cost > $0.35 when tokens <= 20k
test "t" { given plan pro, tokens 9k, prompt "outage" repeated 2 times expect hard -> large, mini then given code expect otherwise }
gate release on "t.parquet" against requested { require savings >= 20% at 95% require share(best) <= 15% }
"""

WORDS = sorted({word for line in grammar().splitlines() for word in line.split('"')[1::2] if word})
TOKENS = [
    *WORDS,
    *SAMPLE.split(),
    "tokens",
    "5",
    "3k",
    "$1",
    "10%",
    "30s",
    "2027-02-30",
    '"text"',
    "/x/",
    "# c\n",
    "\n",
    "\0",
    "\ud800",
    "é",
]


def nothing(path: Path) -> str:
    """A file system without files."""
    raise FileNotFoundError(2, "No such file or directory")


def checked(text: str, seconds: float = 20) -> Checked:
    """The text checked, with what holds of any text: spans lie in the text, codes are known, and it ends in time."""
    begun = time.monotonic()
    found = check_text(text, read=nothing)
    assert time.monotonic() - begun < seconds
    for diagnostic in found.diagnostics:
        assert diagnostic.number.startswith("PR") and diagnostic.message
        assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(text)
        assert diagnostic.span.file == 0
        found.sources[0].position(diagnostic.span.start)
    return found


def readable(found: Checked) -> None:
    """A policy without errors can be compiled, and decides."""
    policy = found.policy
    values = {name: signal.default for name, signal in policy.signals.items()}
    live = compile_policy(policy)
    assert live.decide(live.given({})) == decide(policy, values)
    assert Query(policy).over("requests")


def test_sample_is_accepted() -> None:
    """What the mutations start from is a good policy."""
    found = checked(SAMPLE)
    assert not found.diagnostics
    readable(found)


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text(text: str) -> None:
    """Characters of every kind, lone surrogates included."""
    assert checked(text).failed


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    """Bytes, as a reader that replaces what is no UTF-8 would give them, and as one that keeps them as surrogates."""
    checked(content.decode("utf-8", "replace"))
    checked(content.decode("utf-8", "surrogateescape"))


@given(st.lists(st.sampled_from(TOKENS), max_size=60), st.sampled_from([" ", "\n"]))
def test_words_in_any_order(tokens: list[str], between: str) -> None:
    """The language's own words, in orders that it doesn't have."""
    checked(between.join(tokens))
    checked(BEGIN + between.join(tokens) + END)


@given(st.data())
def test_mutated_policy(data: st.DataObject) -> None:
    """Slices of a good policy deleted, doubled, moved, or replaced. What is still accepted can be compiled and decides."""
    text = SAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        target = data.draw(st.integers(0, len(text)))
        change = data.draw(st.sampled_from(["delete", "double", "move", "insert"]))
        piece = data.draw(st.sampled_from(TOKENS)) if change == "insert" else text[start:end] if change != "delete" else ""
        rest = text if change in ("double", "insert") else text[:start] + text[end:]
        text = rest[:target] + piece + rest[target:]
    found = checked(text)
    if not found.failed:
        readable(found)


@given(st.integers(0, 2**32))
def test_lines_in_any_order(seed: int) -> None:
    """Declarations may stand in any order, but for rules and `otherwise`; a policy says the same diagnostics each time."""
    lines = SAMPLE.splitlines()
    random.Random(seed).shuffle(lines)
    found = checked("\n".join(lines))
    assert {diagnostic.code for diagnostic in found.diagnostics} <= {"rule-after-otherwise"}
    assert found.diagnostics == checked("\n".join(lines)).diagnostics


DEEP = {
    "groups": lambda n: "rule a { when " + "(" * n + "code" + ")" * n + " then mini }",
    "open groups": lambda n: "rule a { when " + "(" * n,
    "closed groups": lambda n: "rule a { when code" + ")" * n + " then mini }",
    "nots": lambda n: "rule a { when " + "not " * n + "code then mini }",
    "sums": lambda n: "rule a { when tokens" + " + 1" * n + " > 3 then mini }",
    "differences": lambda n: "rule a { when " + "1 - (" * n + "tokens" + ")" * n + " > 3 then mini }",
    "products": lambda n: "rule a { when tokens" + " * 1" * n + " > 3 then mini }",
    "alternation": lambda n: "rule a { when code" + " or (code and json" * n + ")" * n + " then mini }",
    "memberships": lambda n: "rule a { when " + "(" * n + "code" + " is x)" * n + " then mini }",
    "has": lambda n: "rule a { when " + "(" * n + "code" + " has x)" * n + " then mini }",
    "comparisons": lambda n: "rule a { when " + "(" * n + "code" + " > 1)" * n + " then mini }",
    "long or": lambda n: "rule a { when code" + " or json" * n + " then mini }",
    "lets": lambda n: "".join(f"let l{i} = l{i + 1} and code\n" for i in range(n // 10)) + f"let l{n // 10} = code",
    "lets backwards": lambda n: "let l0 = code\n" + "".join(f"let l{i + 1} = l{i} and not code\n" for i in range(n // 10)),
    "doubling lets": lambda n: "let l0 = code\n" + "".join(f"let l{i + 1} = l{i} and (json or l{i})\n" for i in range(n // 10)),
    "guarantee": lambda n: "guarantee g : never mini when " + "not " * n + "code",
    "quota": lambda n: "quota q { 1 per day by user when " + "not " * n + "code then mini }",
    "escalate": lambda n: "escalate mini { when " + "not " * n + "(answer is empty) then up }",
    "pattern": lambda n: "pattern x = /" + "(" * n + "a" + ")" * n + "/",
    "pattern repeats": lambda n: "pattern x = /" + "(" * 3 + "a{0,100}" + "){0,100}" * 3 + "/",
    "tiers": lambda n: "".join(f"tier t{i + 1} = {f't{i}' if i else 'mini'}\n" for i in range(n // 10)),
    "members": lambda n: "rule a { when tool in (" + "x, " * n + "x) then mini }",
    "name": lambda n: "rule " + "a" * n + " { when " + "b" * n + " then " + "c" * n + " }",
    "digits": lambda n: "rule a { when tokens > " + "9" * n + " then mini }",
    "cause": lambda n: "on failure { retry 1 on " + "9" * n + " }",
    "duration": lambda n: "sticky by user for " + "9" * n + "s { keep model }",
    "amount": lambda n: "model m { id \"x\" in $0." + "0" * n + "1 out $1 }",
    "share": lambda n: "explore " + "9" * n + "." + "9" * n + "% by user",
    "text": lambda n: 'words w = "' + "x" * n + '"',
    "open text": lambda n: 'words w = "' + "x" * n,
    "open texts": lambda n: 'words w = "\n' * (n // 100),
    "open pattern": lambda n: "pattern p = /" + "x" * n,
    "comment": lambda n: "#" + "(" * n,
    "one line": lambda n: "let a = code " * (n // 20),
    "broken rules": lambda n: "rule { }\n" * (n // 100),
    "path": lambda n: 'use "' + "x/" * n + '"',
    "parents": lambda n: 'use "' + "../" * n + '"',
    "models": lambda n: "".join(f'model m{i} {{ id "x" }}\n' for i in range(n // 100)),
    "unknown names": lambda n: "".join(f"rule r{i} {{ when zzz{i} then yyy{i} }}\n" for i in range(n // 200)),
}  # fmt: skip


@pytest.mark.parametrize("size", [99, 300, 20_000])
@pytest.mark.parametrize("form", DEEP)
def test_size_and_depth(form: str, size: int) -> None:
    """Deep nesting and long texts end in a diagnostic or a policy that decides, never in a crash, and soon."""
    found = checked(BEGIN + DEEP[form](size) + END)
    if not found.failed:
        readable(found)


@pytest.mark.parametrize(
    "text",
    ["\0", "\ud800", 'use "\0"', 'words w = "\ud800"', "pattern p = /\ud800/", "\ufeffedition 1", "٣", "edition ٣", "\u00a0"],
)
@pytest.mark.parametrize("around", [("", ""), (BEGIN, END)])
def test_odd_characters(text: str, around: tuple[str, str]) -> None:
    """What is no text, or looks like a digit or a space and is none, is a syntax error at its place."""
    found = checked(around[0] + text + around[1])
    assert [diagnostic.code for diagnostic in found.diagnostics if not diagnostic.code.endswith("-missing")] == ["syntax-error"]


@pytest.mark.parametrize("text", ["\r\n", "\t", "\f", "\v", " \r"])
def test_white_space(text: str) -> None:
    """Every kind of ASCII white space means nothing."""
    assert not checked(SAMPLE.replace("\n", text + "\n")).diagnostics
