"""A simulation in a terminal: the story on about 40 lines, everything with `details`, and names that are printed as they are."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from rich.console import Console

from policyroute.render.sentences import cautions, count, interval, usd, winners_and_losers
from policyroute.render.simulation import simulation
from tests.report_fixture import OPTIONAL, PIPE, SCRIPT, Json, bare, full, paired_quality, silent_quality
from tests.simulate_support import policy_of, replay

MOST_LINES = 48


def printed(found: Json, *, details: bool = False, width: int = 140) -> str:
    """What is printed to a terminal of this width."""
    out = io.StringIO()
    simulation(found, Console(file=out, width=width, highlight=False, emoji=False), details=details)
    return out.getvalue()


def squeezed(text: str) -> str:
    """With single blanks."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    "said",
    [
        "recorded models, at our prices $1,240.50", "under the policy $803.25", "saved $437.25 35.25 %", "95 % interval: 32.10 to 38.40 %, $391.00 to $483.50",
        "3.41 times as many output tokens", "two days hold half of the spend", "180 unpriceable (1.80 %), $0.00 + 1 row unknown: no price",
        "incident opus fallback sonnet 310 3.10 %", "sonnet → mini 5,100 $520.00 $117.70 $402.30", "By plan: free $500.00 (62.50 %); enterprise -$61.20 (-20.40 %); 1 more",
        "By region: us $300.00 (42.86 %), eu $137.25 (25.39 %); nobody loses", "moved to a dearer tier: 310", "✗ share(premium) <= 2%: 3.10 % ; 1.10 points over",
        "1 row agrees within 0.5 %", "unknown in 1 row (0.01 %)", "the policy scores as well", "Assumed answers keep their length;", f"column `{SCRIPT}`",
    ],
)  # fmt: skip
def test_the_story(said: str) -> None:
    """Headline, classes, rules, pairs, winners and losers, risk, gates, warnings, self-test, assumptions."""
    assert said.replace(" % ;", " %;") in squeezed(printed(full()))


@pytest.mark.parametrize(
    "said",
    [
        "Accounting", "From the baseline to the new bill", "short_questions -$402.30", "if removed", "+$290.10", "2026-03-08 1,280 760 $80.00 $95.00 -$15.00",
        "user-009 291 145", "and 400 more members between these", "cache model on 1 recorded call", "no model can take the request 0", "req-12", "row 40",
        f"{SCRIPT} 9,800 $1,238.00", "- answers keep their length: the routed model", PIPE, "outcome `thumbs`", "on traces/*.parquet against requested",
    ],
)  # fmt: skip
def test_everything(said: str) -> None:
    """What the story leaves out stands in the details."""
    assert said in squeezed(printed(full(), details=True))


def test_about_40_lines() -> None:
    """The report of the example trace fits on a tall screen, and each of its sections is there."""
    text = printed(replay(policy_of("policies/support.route"), "traces/support.parquet"))
    assert text.count("\n") <= MOST_LINES
    places = [
        text.index(heading) for heading in ("saved", "By rule", "From model to model", "By plan", "Risk", "Self-test", "Assumed")
    ]
    assert all(before < after for before, after in pairwise(places))


def test_narrow() -> None:
    """A terminal of 80 columns has room for rules, their shares and savings."""
    lines = printed(replay(policy_of("policies/support.route"), "traces/support.parquet"), width=80).splitlines()
    (line,) = [line for line in lines if line.startswith("quick_question")]
    assert len(line.rstrip()) <= 80 and squeezed(line).split()[:3] == ["quick_question", "cheap", "858"]


@pytest.mark.parametrize("key", OPTIONAL)
@pytest.mark.parametrize("details", [False, True])
def test_any_part_may_be_absent(key: str, details: bool) -> None:
    """A key that a result lacks, or has empty, leaves its lines out."""
    whole = full()
    for found in ({name: value for name, value in whole.items() if name != key}, whole | {key: None}):
        assert "35.25 %" in printed(found, details=details)


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/]", ":rocket:", "[link=a]"])
def test_names_are_printed_as_they_are(name: str) -> None:
    """No markup of rich, wherever a name stands."""
    found = full()
    found["policy"] = found["rules"][1]["rule"] = found["flows"][0]["from"] = found["segments"]["plan"]["top"][0]["member"] = name
    found["gates"][0]["gate"] = found["waterfall"][1]["label"] = found["examples"][0]["request_id"] = found["comparison"][0][
        "policy"
    ] = name
    for details in (False, True):
        assert printed(found, details=details).count(name) >= 4


@pytest.mark.parametrize(
    ("panel", "short", "long"),
    [
        (silent_quality(), "Quality quality is not identifiable from these traces = help: add `explore 1% by user` to the policy", "add `explore 1% by user`"),
        (paired_quality(), "Quality do not route: `mini` for all is as good and cheaper", "do not route"),
    ],
)  # fmt: skip
def test_panels_of_quality(panel: Json, short: str, long: str) -> None:
    """One line of quality in the story."""
    assert short in squeezed(printed(bare() | {"quality": panel}))
    if "verdict" not in panel:
        assert long in squeezed(printed(bare() | {"quality": panel}, details=True))


# -- sentences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_345, "12,345 rows")])
def test_count(number: int, text: str) -> None:
    """One row is no `1 rows`."""
    assert count(number, "row") == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.000000000000", "$0.00"),
        ("1234.567", "$1,234.57"),
        ("-0.00123456", "-$0.00123"),
        ("0.999999", "$1.000"),
        ("0.000000123456", "$0.000000123"),
        ("5.105", "$5.10"),
        ("0.000000000001", "$0.000000000001"),
    ],
)
def test_usd(amount: str, text: str) -> None:
    """Cents, or three digits below a dollar."""
    assert usd(amount) == text


def test_no_interval_says_why() -> None:
    """Where nothing can be drawn."""
    assert interval(bare()).startswith("no interval: ")


@pytest.mark.parametrize(("saving", "warned"), [("2.50", True), ("-2.50", True), ("2.51", False)])
def test_a_difference_within_the_error_is_no_saving(saving: str, warned: bool) -> None:
    """The self-test's error is $2.50."""
    found = full()
    found["headline"] |= {"saving_usd": saving}
    assert any("it is not a saving" in caution for caution in cautions(found)) is warned


@pytest.mark.parametrize(
    ("saving", "said"),
    [("1.00", "saved $1.00 (0.10 %)"), ("-1.00", "dearer by $1.00 (0.10 %)")],
)
def test_a_loss_without_cache_is_not_called_saved(saving: str, said: str) -> None:
    """What would be without any cached prefix is named by its sign."""
    found = full()
    found["headline"] |= {
        "saving_without_cache_usd": saving,
        "saving_without_cache_percent": "-0.10" if saving.startswith("-") else "0.10",
    }
    assert f"if a changed model finds nothing cached: {said}" in printed(found)


@pytest.mark.parametrize(("ends", "warned"), [(["0.00", "3.00"], True), (["-3.00", "-1.00"], False), (["1.00", "3.00"], False)])
def test_an_interval_around_nothing_is_said(ends: list[str], warned: bool) -> None:
    """Where the interval includes 0, nothing is shown."""
    found = full()
    found["interval"] |= {"saving_usd": ends}
    assert ("the interval includes 0" in printed(found)) is warned


def test_winners_and_losers() -> None:
    """Losers among the first members of a small segment are losers; what stays as it is is neither."""
    winners, losers = winners_and_losers(full()["segments"]["plan"])
    assert [line["member"] for line in winners] == ["free"] and [line["member"] for line in losers] == ["enterprise"]
    winners, losers = winners_and_losers(full()["segments"]["user_id"])
    assert [line["member"] for line in losers] == [PIPE, SCRIPT] and len(winners) == 10
