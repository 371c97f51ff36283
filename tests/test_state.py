"""What earlier requests leave behind, said as policies' own tests; calendar windows; the order of effects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.language.load import check_text
from policyroute.prices.catalog import complete, load_catalog
from policyroute.state.windows import MICROSECOND, end, label_sql, micros, window
from policyroute.testing.run import Suite

HEAD = """edition 1
policy states
signal plan : free | pro = free
signal region : us | eu = us
model nano   { provider openai     id "n"  in $1  out $2   context 400k  can tools, images, json }
model haiku  { provider anthropic  id "h"  in $2  out $4   context 200k  can tools, images, json }
model sonnet { provider anthropic  id "s"  in $3  out $15  context 200k  can tools, images, json }
model opus   { provider anthropic  id "o"  in $5  out $25  context 200k  can tools, images, json }
tier cheap    = nano, haiku
tier standard = sonnet
tier premium  = opus, sonnet
order cheap < standard < premium
rule hard   { when tokens > 10k then premium }
rule medium { when tokens > 5k then standard }
rule no     { when turns > 50 then refuse "too long" }
"""
HARD, MEDIUM, EASY = "tokens 20k", "tokens 6k", "tokens 2k"
STICKY = "sticky by conversation for 30min {{ {} }}\n"

# declarations, and the steps of a test: what is given, what is expected
CASES = {
    "never downgrade raises within the conversation alone": (
        STICKY.format("never downgrade"),
        [
            (f'{HARD}, conversation "a"', "hard -> opus, sonnet"),
            (f'{EASY}, conversation "a"', "otherwise by sticky conversation -> opus, sonnet"),
            (f'{EASY}, conversation "b"', "otherwise -> nano, haiku"),
            (f"{EASY}", "otherwise -> nano, haiku"),
        ],
    ),
    "its lifetime begins anew with each request": (
        STICKY.format("never downgrade"),
        [
            (f'{HARD}, conversation "a", time "2026-03-02T10:00:00Z"', "hard"),
            (f'{EASY}, conversation "a", time "2026-03-02T10:30:00Z"', "otherwise by sticky conversation -> opus, sonnet"),
            (f'{EASY}, conversation "a", time "2026-03-02T11:00:01Z"', "otherwise -> nano, haiku"),
        ],
    ),
    "a forbid has the last word over what is held": (
        STICKY.format("never downgrade") + "forbid opus, sonnet when region is eu\n",
        [
            (f'{HARD}, conversation "a"', "hard -> opus, sonnet"),
            (f'{EASY}, conversation "a", region eu', "otherwise -> nano, haiku"),
        ],
    ),
    "keep model keeps what was first, up and down": (
        STICKY.format("keep model"),
        [
            (f'{EASY}, conversation "a"', "otherwise -> nano, haiku"),
            (f'{HARD}, conversation "a"', "hard by sticky conversation -> nano, opus, sonnet"),
        ],
    ),
    "keep while cached lets an upgrade through and keeps a downgrade": (
        STICKY.format("keep while cached"),
        [
            (f'{MEDIUM}, conversation "a", time "2026-03-02T10:00:00Z"', "medium -> sonnet"),
            (f'{EASY}, conversation "a", time "2026-03-02T10:04:00Z"', "otherwise by sticky conversation -> sonnet, nano, haiku"),
            (f'{HARD}, conversation "a", time "2026-03-02T10:05:00Z"', "hard -> opus, sonnet"),
            (f'{EASY}, conversation "a", time "2026-03-02T10:11:00Z"', "otherwise -> nano, haiku"),
        ],
    ),
    "a prompt below the provider's minimum leaves nothing that is kept warm": (
        STICKY.format("keep while cached") + "rule tiny { when tokens < 1000 then standard }\n",
        [('tokens 900, conversation "a"', "tiny -> sonnet"), (f'{EASY}, conversation "a"', "otherwise -> nano, haiku")],
    ),
    "a refusal leaves a conversation as it was": (
        STICKY.format("never downgrade"),
        [
            (f'{HARD}, conversation "a"', "hard"),
            ('turns 60, conversation "a"', "no -> refused"),
            (f'{EASY}, conversation "a"', "otherwise by sticky conversation -> opus, sonnet"),
        ],
    ),
    "a quota counts by its key": (
        "quota fair { 2 per day by user of premium then cheap }\n",
        [
            (f'{HARD}, user "u" repeated 2 times', "hard -> opus, sonnet"),
            (f'{HARD}, user "u"', "hard by quota fair -> nano, haiku"),
            (f'{HARD}, user "v"', "hard -> opus, sonnet"),
            (f'{EASY}, user "u"', "otherwise -> nano, haiku"),
        ],
    ),
    "requests without a key share one": (
        "quota fair { 2 per day by user of premium then cheap }\n",
        [(f"{HARD} repeated 2 times", "hard -> opus, sonnet"), (HARD, "hard by quota fair -> nano, haiku")],
    ),
    "a window rolls over at midnight of the policy's time zone": (
        'timezone "Europe/Berlin"\nquota fair { 1 per day by user of premium then cheap }\n',
        [
            (f'{HARD}, time "2026-03-02T22:00:00Z"', "hard -> opus, sonnet"),
            (f'{HARD}, time "2026-03-02T22:59:59Z"', "hard by quota fair -> nano, haiku"),
            (f'{HARD}, time "2026-03-02T23:00:00Z"', "hard -> opus, sonnet"),
        ],
    ),
    "a request that comes late counts in the window of its own time": (
        "quota fair { 1 per hour by user of premium then cheap }\n",
        [
            (f'{HARD}, time "2026-03-02T10:59:00Z"', "hard -> opus, sonnet"),
            (f'{HARD}, time "2026-03-02T11:00:00Z"', "hard -> opus, sonnet"),
            (f'{HARD}, time "2026-03-02T10:59:30Z"', "hard by quota fair -> nano, haiku"),
        ],
    ),
    "a quota counts those alone for whom its condition holds": (
        "quota fair { 1 per day by user of premium when plan is free then cheap }\n",
        [
            (f"{HARD}, plan pro repeated 5 times", "hard -> opus, sonnet"),
            (f"{HARD}, plan free", "hard -> opus, sonnet"),
            (f"{HARD}, plan free", "hard by quota fair -> nano, haiku"),
        ],
    ),
    "one limit leads to the next": (
        "quota a { 1 per day by user of opus then standard }\nquota b { 1 per day by user of sonnet then cheap }\n",
        [
            (HARD, "hard -> opus, sonnet"),
            (HARD, "hard by quota a -> sonnet"),
            (HARD, "hard by quota b -> nano, haiku"),
        ],
    ),
    "what another limit takes away is not counted": (
        "quota a { 1 per day by user of opus then standard }\nquota b { 1 per day by user of opus when plan is free then cheap }\n",
        [
            (f"{HARD}, plan free", "hard -> opus, sonnet"),
            (f"{HARD}, plan free", "hard by quota a -> sonnet"),
            (f"{MEDIUM}, plan free repeated 9 times", "medium -> sonnet"),
        ],
    ),
    "a used-up quota may refuse": (
        'quota fair { 1 per day by user then refuse "come back tomorrow" }\n',
        [(EASY, "otherwise -> nano, haiku"), (EASY, "otherwise by quota fair -> refused")],
    ),
    "what sticky raises, a quota may lower, and the conversation remembers that": (
        STICKY.format("never downgrade") + "quota fair { 1 per day by user of premium then standard }\n",
        [
            (f'{HARD}, conversation "a"', "hard -> opus, sonnet"),
            (f'{EASY}, conversation "a"', "otherwise by quota fair -> sonnet"),
            (f'{EASY}, conversation "a"', "otherwise by sticky conversation -> sonnet"),
        ],
    ),
    "a budget reserves what a request costs at most": (  # 20,000 x $5 + 4,000 x $25 per million = $0.20
        "budget cap { $0.40 per day by team of premium then cheap }\n",
        [
            (f'{HARD}, max_output 4k, team "t" repeated 2 times', "hard -> opus, sonnet"),
            (f'{HARD}, max_output 4k, team "t"', "hard by budget cap -> nano, haiku"),
            (f'{HARD}, max_output 4k, team "x"', "hard -> opus, sonnet"),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sequences(name: str) -> None:
    declarations, steps = CASES[name]
    lines = "\n".join(
        f"{'then ' if number else ''}given {asked}\n  expect {wanted}" for number, (asked, wanted) in enumerate(steps)
    )
    checked = check_text(f'{HEAD}{declarations}otherwise {{ then cheap }}\ntest "sequence" {{\n{lines}\n}}\n')
    assert [d.message for d in checked.diagnostics if d.code != "unused"] == []
    (found,) = Suite(complete(checked.policy, load_catalog())[0]).run()
    assert (found.status, found.details) == ("passed", ())


# -- windows -------------------------------------------------------------------------------------------------------------

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")
PERIODS = ("minute", "hour", "day", "week", "month")
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


@given(st.lists(MOMENTS, min_size=1, max_size=40), st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_windows_are_the_same_in_sql(moments: list[datetime], zone: str, period: str) -> None:
    rows = ", ".join(f"({number}, make_timestamp({micros(at)}))" for number, at in enumerate(moments))
    with duckdb.connect() as connection:
        sql = f"SELECT {label_sql(period, 'ts', zone)} FROM (VALUES {rows}) AS t(n, ts) ORDER BY n"
        found = [name for (name,) in connection.sql(sql).fetchall()]
    assert found == [window(period, at, zone) for at in moments]


@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_a_window_ends_where_the_next_begins(at: datetime, zone: str, period: str) -> None:
    name = window(period, at, zone)
    over = end(period, name, zone)
    assert over > at or _set_back(at, zone)
    assert window(period, over, zone) != name or _set_back(over, zone)
    assert micros(over) == (over.replace(tzinfo=None) - datetime(1970, 1, 1)) // MICROSECOND


def _set_back(at: datetime, zone: str) -> bool:
    """Whether the zone's clock goes back, or forward, around a moment: then a window can be as short or long as the change."""
    offsets = {(at + timedelta(hours=h)).astimezone(ZoneInfo(zone)).utcoffset() for h in (-26, -2, -1, 0, 1, 2, 26)}
    return len(offsets) > 1
