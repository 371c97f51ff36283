"""The report as Markdown: what it says, and that no name of a trace can become markup in it."""

from __future__ import annotations

import re

import pytest

from policyroute.render.markdown import code, document, plain, told
from tests.report_fixture import OPTIONAL, PIPE, SCRIPT, Json, bare, full, paired_quality, silent_quality
from tests.simulate_support import policy_of, replay

CODE = re.compile(r"`[^`\n]*`")


def tables(text: str) -> list[list[str]]:
    """The lines of each table."""
    return [block.split("\n") for block in text.split("\n\n") if block.startswith("| ")]


def cells(line: str) -> int:
    """How many cells GitHub sees in a line of a table."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


@pytest.mark.parametrize(
    "said",
    [
        "### `desk`: 35.25 % saved, \\$437.25", "95 % interval: 32.10 to 38.40 %, \\$391.00 to \\$483.50, over 412 clusters (user\\_id)",
        "3.41 times as many output tokens", "> [!WARNING]", "#### Gate `release`: **fail**", "not enough data", "about 400 more requests are needed",
        "| `incident` | `opus fallback sonnet` | 310 | 3.10 % | 330 | \\$120.00 | \\$181.20 | -\\$61.20 | -\\$61.20 |",
        "`enterprise` -\\$61.20 (-20.40 %)", "recorded models, at our prices", "<details><summary>Assumed, self-test, digests</summary>",
        "1 row agrees within 0.5 %", "\\$0.00 + 1 row unknown", "unknown in 1 row (0.01 %)", "moved to a dearer tier: 310", "some new figure: unknown",
    ],
)  # fmt: skip
def test_it_says(said: str) -> None:
    """Headline, interval, break-even, gates, rules with their marginal value, losers, assumptions."""
    assert said in document(full())


def test_no_name_becomes_markup() -> None:
    """Outside of code, no `<` but that of our own elements; in tables, every line has as many cells as its head."""
    text = document(full())
    ours = re.sub(r"</?(?:details|summary)>|<br>", "", CODE.sub("", text))
    assert "<" not in ours
    assert SCRIPT in "".join(CODE.findall(text))
    for lines in tables(text):
        assert {cells(line) for line in lines} == {cells(lines[0])}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (SCRIPT, "&lt;script&gt;alert(1)&lt;/script&gt;"), (PIPE, "a\\|b \\`c\\` \\[d\\](e) \\*f\\*"), ("two\nlines", "two lines"), ("@octocat, #12", "@&#8203;octocat, #&#8203;12"),
        ("&lt;", "&amp;lt;"), ("a\\b", "a\\\\b"),
    ],
)  # fmt: skip
def test_plain(text: str, made: str) -> None:
    """Plain text means what it says."""
    assert plain(text) == made


@pytest.mark.parametrize(("text", "made"), [("a`b", "`a'b`"), ("", "(empty)"), ("a|b", "`a|b`"), (" x\n\ny ", "`x y`")])
def test_code(text: str, made: str) -> None:
    """Code stays one span on one line."""
    assert code(text) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("rule `a_b` refuses_x", "rule `a_b` refuses\\_x"),
        ("an odd ` here_", "an odd \\` here\\_"),
        ("`plan`", "`plan`"),
        ("` ` ", "(empty) "),
    ],
)
def test_told(text: str, made: str) -> None:
    """Names between backticks become code; where these don't pair, nothing does."""
    assert told(text) == made


@pytest.mark.parametrize("key", OPTIONAL)
def test_any_part_may_be_absent(key: str) -> None:
    """A key that a result lacks, or has empty, leaves its section out and nothing else changes hands."""
    whole = full()
    for found in ({name: value for name, value in whole.items() if name != key}, whole | {key: None}):
        assert "35.25 % saved" in document(found)


def test_the_bare_result() -> None:
    """Without all of them the document still stands."""
    assert "35.25 % saved" in document(bare())


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        (paired_quality(), "Do not route: `mini` for all is as good and cheaper."),
        (silent_quality(), "add".capitalize() + " `explore 1% by user` to the policy."),
    ],
)
def test_panels_of_quality(panel: Json, said: str) -> None:
    """The panel of an outcomes table and that of traces that can't tell are read as they are."""
    assert said in document(full() | {"quality": panel})


@pytest.mark.parametrize(
    ("saving", "percent", "said"),
    [
        ("-3.00", "-0.24", "0.24 % dearer, \\$3.00"),
        ("0.00", "0.00", "no difference, \\$0.00"),
        ("2.00", "0.16", "it is not a saving"),
    ],
)
def test_what_is_no_saving_is_not_called_one(saving: str, percent: str, said: str) -> None:
    """A loss, nothing, and a difference within the self-test's error."""
    found = full()
    found["headline"] |= {"saving_usd": saving, "saving_percent": percent}
    assert said in document(found)


def test_nothing_priced() -> None:
    """No headline where nothing could be priced."""
    found = full()
    found["headline"] |= {"rows": 0}
    assert "no saving to speak of" in document(found).splitlines()[0]


def test_of_a_replay() -> None:
    """A real result: its headline, and a line for each of its rules."""
    policy = policy_of("policies/support.route")
    found = replay(policy, "traces/support.parquet")
    text = document(found)
    assert f"{found['headline']['saving_percent']} % saved" in text
    assert all(f"| `{rule.name}" in text for rule in policy.rules)
